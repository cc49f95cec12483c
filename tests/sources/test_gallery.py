"""Pictures: normalised, stored once, and refused before they can do harm."""

import io
import struct
import zlib
from pathlib import Path

import layouts
import numpy as np
import pytest
from PIL import Image, ImageCms

from grandrounds.sources.images import Gallery, decode, normalise
from grandrounds.sources.store import Refused


def saved(picture: Image.Image, form: str, **more) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **more)
    return buffer.getvalue()


def test_one_picture_is_one_file_whatever_its_container(tmp_path: Path) -> None:
    gallery = Gallery(tmp_path, 10**6, 64)
    names = {gallery.take(layouts.picture(1, form))[0] for form in ("PNG", "BMP", "TIFF", "GIF")}
    assert names == {path.name for path in tmp_path.iterdir()} and len(names) == 1
    assert gallery.take(layouts.picture(2))[0] not in names


def test_only_pixels_are_kept(tmp_path: Path) -> None:
    plain = Image.open(io.BytesIO(layouts.picture(1)))
    exif = Image.Exif()
    exif[0x010E] = "Jane Doe"
    told = saved(
        plain, "PNG", exif=exif, icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    )
    gallery = Gallery(tmp_path, 10**6, 64)
    assert gallery.take(told)[0] == gallery.take(layouts.picture(1))[0]
    content = next(tmp_path.iterdir()).read_bytes()
    assert b"Jane" not in content and content.count(b"IDAT") and not Image.open(io.BytesIO(content)).info


def test_upright_by_exif() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera lay on its side
    turned = normalise(decode(saved(Image.new("RGB", (40, 20)), "JPEG", exif=exif), 10**6), 64)
    assert turned.size == (20, 40)


def test_the_longest_side_is_capped_and_small_ones_stay() -> None:
    assert normalise(Image.new("L", (400, 100)), 64).size == (64, 16)
    assert normalise(Image.new("L", (40, 10)), 64).size == (40, 10)


def test_twelve_bits_in_sixteen_are_seen() -> None:
    ramp = np.linspace(0, 4095, 256, dtype=np.uint16).reshape(16, 16)
    shown = np.asarray(normalise(decode(saved(Image.fromarray(ramp), "PNG"), 10**6), 64))
    assert (shown.min(), shown.max()) == (0, 255)
    assert shown.shape == (16, 16, 3)


def test_what_is_transparent_is_white() -> None:
    clear = normalise(Image.new("RGBA", (2, 2), (9, 9, 9, 0)), 64)
    assert clear.getpixel((0, 0)) == (255, 255, 255)


def header_only(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says it has so many pixels."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (header_only(2000, 2000), "has 2000 x 2000 pixels; curate.max_pixels allows 1000000"),
        (header_only(65_000, 65_000), "far more pixels"),
        (layouts.picture(1)[:-40], "damaged or cut off"),
        (layouts.picture(1, "JPEG", (400, 300))[:-900], "damaged or cut off"),
        (b"", "not a picture"),
        (b"%PDF-1.7 ...", "not a picture"),
        (b"<svg onload='x'/>", "not a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture"),
        (b"\x80\x04cos\nsystem\n", "not a picture"),
    ],
)
def test_what_is_refused(content: bytes, words: str, tmp_path: Path) -> None:
    with pytest.raises(Refused, match=words):
        Gallery(tmp_path, 10**6, 64).take(content)
    assert not list(tmp_path.iterdir())
