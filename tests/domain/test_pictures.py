import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

from grandrounds.domain.pictures import ImageHash, image_hash, image_pairs
from grandrounds.params import EmbeddedSource
from grandrounds.sources import embedded

Change = Callable[[Image.Image], Image.Image]


def picture(seed: int, side: int = 256) -> Image.Image:
    """A random field whose amplitudes fall with frequency, as those of natural pictures do (Field 1987)."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    spectrum = np.fft.rfft2(rng.standard_normal((side, side))) / np.maximum(frequency, 1 / side) ** 1.5
    field = np.fft.irfft2(spectrum, s=(side, side))
    return Image.fromarray((40 + 160 * (field - field.min()) / np.ptp(field)).astype(np.uint8))


def jpeg(quality: int) -> Change:
    def encode(image: Image.Image) -> Image.Image:
        out = io.BytesIO()
        image.convert("RGB").save(out, "JPEG", quality=quality)
        return Image.open(io.BytesIO(out.getvalue()))

    return encode


def crop(left: float, upper: float, right: float, lower: float) -> Change:
    """Without these percentages of the sides."""

    def cut(image: Image.Image) -> Image.Image:
        w, h = image.size
        box = (w * left / 100, h * upper / 100, w * (1 - right / 100), h * (1 - lower / 100))
        return image.crop(tuple(round(each) for each in box))

    return cut


SAME: dict[str, Change] = {
    "JPEG, quality 90": jpeg(90),
    "JPEG, quality 50": jpeg(50),
    "JPEG, quality 20": jpeg(20),
    "half the size": lambda image: image.resize((image.width // 2, image.height // 2)),
    "twice the size": lambda image: image.resize((2 * image.width, 2 * image.height), Image.Resampling.BICUBIC),
    "another aspect": lambda image: image.resize((image.width, image.height * 3 // 4)),
    "mirrored": ImageOps.mirror,
    "mirrored, JPEG 50": lambda image: jpeg(50)(ImageOps.mirror(image)),
    "1 % off each side": crop(1, 1, 1, 1),
    "3 % off each side": crop(3, 3, 3, 3),
    "4 % off one side": crop(4, 0, 0, 0),
    "4 % off the top, JPEG 60": lambda image: jpeg(60)(crop(0, 4, 0, 0)(image)),
    "contrast 0.6": lambda image: ImageEnhance.Contrast(image).enhance(0.6),
    "contrast 1.4": lambda image: ImageEnhance.Contrast(image).enhance(1.4),
    "brightness 1.2": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
    "in colour": lambda image: image.convert("RGB"),
}
OTHER: dict[str, Change] = {
    "15 % off each side": crop(15, 15, 15, 15),
    "upside down": ImageOps.flip,
    "half of it hidden": lambda image: ImageOps.pad(crop(50, 0, 0, 0)(image), image.size, centering=(1, 0.5)),
}


@pytest.fixture(scope="module")
def crowd() -> list[tuple[str, ImageHash]]:
    return [(f"picture {seed}", image_hash(picture(seed))) for seed in range(40)]


@pytest.mark.parametrize("how", SAME)
def test_the_same_picture_is_found_among_others(how: str, crowd: list[tuple[str, ImageHash]]) -> None:
    changed = image_hash(SAME[how](picture(7)))
    pairs = image_pairs([*crowd, ("changed", changed)])
    assert [(pair.first, pair.second, pair.what) for pair in pairs] == [("picture 7", "changed", "image")]
    assert 0.99 <= pairs[0].similarity <= 1
    assert pairs[0].exact == (how == "in colour")  # grey pixels are equal in red, green and blue
    turned = image_pairs([("changed", changed), *crowd])
    assert [(pair.first, pair.second) for pair in turned] == [("changed", "picture 7")]


@pytest.mark.parametrize("how", OTHER)
def test_another_picture_is_not(how: str, crowd: list[tuple[str, ImageHash]]) -> None:
    assert image_pairs([*crowd, ("changed", image_hash(OTHER[how](picture(7))))]) == []


def test_plain_pictures_are_told_apart_by_their_pixels_only() -> None:
    def dark(seed: int, caption: bool = False) -> Image.Image:
        noise = np.random.default_rng(seed).integers(0, 3, (128, 128), dtype=np.uint8)
        image = Image.fromarray(noise)
        if caption:
            ImageDraw.Draw(image).text((4, 4), "L  SUPINE", fill=255)
        return image

    rows = [(f"dark {seed}", image_hash(dark(seed))) for seed in range(5)]
    rows += [(f"captioned {seed}", image_hash(dark(seed, caption=True))) for seed in range(5)]
    rows += [("black", image_hash(Image.new("L", (64, 64)))), ("also black", image_hash(Image.new("L", (80, 64))))]
    assert image_pairs(rows) == []
    again = image_pairs([*rows, ("copy", image_hash(dark(3)))])
    assert [(pair.first, pair.second, pair.exact) for pair in again] == [("dark 3", "copy", True)]


def test_content_is_the_pixels_whatever_the_file() -> None:
    image = picture(1, 64)
    png, webp = io.BytesIO(), io.BytesIO()
    image.save(png, "PNG")
    image.save(webp, "WEBP", lossless=True)
    assert image_hash(Image.open(png)) == image_hash(Image.open(webp)) == image_hash(image)
    assert image_hash(image).content != image_hash(image.resize((32, 32))).content
    assert image_hash(Image.new("RGBA", (9, 9), (255, 255, 255, 0))) == image_hash(Image.new("L", (9, 9)))


def test_sixteen_bits_are_read_from_darkest_to_brightest() -> None:
    deep = Image.fromarray(np.asarray(picture(2)).astype(np.uint16) * 100 + 1000)
    assert deep.mode.startswith("I")
    pairs = image_pairs([("deep", image_hash(deep)), ("shallow", image_hash(picture(2)))])
    assert [pair.second for pair in pairs] == ["shallow"]


def test_slabs_of_the_embedded_corpus_stay_apart() -> None:
    """Slices of one template, with marks drawn on them: those of two slabs, 5 mm apart or more, are never one."""
    source = EmbeddedSource(pretrain=10, train=150, val=60, test=150, unseen=60, image_share=1)
    splits, images = embedded.build(source, 11)
    group = {question.image: question.group for split in splits.values() for question in split if question.image}
    hashes = [(name, image_hash(Image.open(io.BytesIO(images[name])))) for name in sorted(group)]
    apart = [pair for pair in image_pairs(hashes) if group[pair.first] != group[pair.second]]
    assert not apart
    name, original = next((name, Image.open(io.BytesIO(images[name]))) for name in sorted(group))
    found = image_pairs([*hashes, ("again", image_hash(jpeg(50)(original)))])
    assert (name, "again") in {(pair.first, pair.second) for pair in found}


def test_a_perceptual_hash_would_tell_neither() -> None:
    """Why correlations: pHash turns bits over on re-encoded symmetric slices, and none between slices 5 mm apart."""
    import imagehash

    source = EmbeddedSource(pretrain=10, train=150, val=60, test=150, unseen=60, image_share=1)
    splits, images = embedded.build(source, 11)
    group = {question.image: question.group for split in splits.values() for question in split if question.image}
    opened = {name: Image.open(io.BytesIO(images[name])) for name in sorted(group)}
    bits = {name: imagehash.phash(image) for name, image in opened.items()}
    turned = max(bits[name] - imagehash.phash(jpeg(90)(image)) for name, image in opened.items())
    names = list(opened)
    apart = min(bits[a] - bits[b] for n, a in enumerate(names) for b in names[:n] if group[a] != group[b])
    assert turned > 10 and apart <= 2, (turned, apart)


def test_few_pictures_or_none() -> None:
    assert image_pairs([]) == []
    assert image_pairs([("one", image_hash(picture(1)))]) == []
