"""Pictures as the pipeline keeps them: verified, RGB, upright, not too large, no metadata, once each.

A picture's file is named by the SHA-256 of the normalised PNG, so the same picture under two names, or twice in a set,
is one file.
"""

import io
import warnings
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from grandrounds.sources.store import Refused

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP")  # Pillow's other readers are not tried on unknown bytes
BYTES = 256 << 20  # of one picture's file


class Gallery:
    """A folder that takes pictures in; None: they are looked at, and not kept. `max_pixels` is what a picture may say
    that it has, before it is decoded; `cap` is the longest side, in pixels, that is kept.
    """

    def __init__(self, folder: Path | None, max_pixels: int, cap: int) -> None:
        self.folder, self.max_pixels, self.cap = folder, max_pixels, cap

    def take(self, picture: "bytes | Image") -> tuple[str, "Image"]:
        """Store a picture, and return its file name and its normalised form. Raises Refused, saying what is wrong."""
        normal = normalise(decode(picture, self.max_pixels) if isinstance(picture, bytes) else picture, self.cap)
        buffer = io.BytesIO()
        normal.save(buffer, "PNG")
        png = buffer.getvalue()
        name = sha256(png).hexdigest()[:32] + ".png"
        if self.folder and not (self.folder / name).exists():
            (self.folder / name).write_bytes(png)
        return name, normal


def decode(content: bytes, max_pixels: int) -> "Image":
    """The first frame of a picture's file. Raises Refused for no picture, too many pixels, or one that is cut off."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # we have our own limit
            picture = Image.open(io.BytesIO(content), formats=FORMATS)
            width, height = picture.size
            if width * height > max_pixels:
                raise Refused(f"the picture has {width} x {height} pixels; curate.max_pixels allows {max_pixels}")
            picture.load()
    except Image.DecompressionBombError:
        raise Refused(f"the picture has far more pixels than curate.max_pixels allows ({max_pixels})") from None
    except UnidentifiedImageError:
        raise Refused(f"not a picture that is read here ({', '.join(FORMATS)})") from None
    except (OSError, ValueError, SyntaxError, EOFError) as error:  # what Pillow raises for damaged files
        raise Refused(f"the picture is damaged or cut off ({error})") from None
    return picture


def normalise(picture: "Image", cap: int) -> "Image":
    """Upright (EXIF), 8-bit RGB, transparent parts white, the longest side at most `cap` pixels, and no metadata."""
    from PIL import Image, ImageOps

    picture = ImageOps.exif_transpose(picture)
    if picture.mode in ("I", "F") or picture.mode.startswith("I;"):
        picture = _stretched(picture)
    if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        rgba = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    plain = picture.convert("RGB")
    plain.thumbnail((cap, cap), Image.Resampling.LANCZOS)
    plain.info.clear()  # or Pillow would write colour profiles and comments into the PNG
    return plain


def _stretched(picture: "Image") -> "Image":
    """More than 8 bits a pixel, from the darkest to the brightest: 12 bits stored as 16 would be near black."""
    import numpy as np
    from PIL import Image

    values = np.asarray(picture, dtype=np.float64)
    low, high = values.min(), values.max()
    return Image.fromarray((255 * (values - low) / max(high - low, 1e-9)).round().astype(np.uint8))
