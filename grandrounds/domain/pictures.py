"""Near-duplicates among pictures: re-encoded, resized, mirrored, slightly cropped, with another contrast.

Two pictures are duplicates when their grey values correlate: small copies of both, reduced to mean 0 and length 1, have
a scalar product (zero-normalised cross-correlation) of at least THRESHOLD. A picture stands for itself, for its mirror
image and for each of WINDOWS, so that a crop meets the window it was cut from.

Not a 64-bit perceptual hash, whose bits are signs of frequencies: symmetric medical slices have frequencies near zero,
and JPEG at quality 90 turns 17 of the 64 bits of some MNI152 slices over while their correlation stays above 0.9999,
and slices 5 mm apart may differ in none (docs/data-leakage.md). The lowest frequencies serve here too, but as numbers:
their distance is never more than that of the pictures (Agrawal, Faloutsos, Swami 1993), so the search of a k-d tree
over them misses nothing.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from grandrounds.domain.copies import Copies, Pair

if TYPE_CHECKING:
    from PIL.Image import Image

THRESHOLD = 0.99  # between slices 5 mm apart in one brain (up to 0.987) and crops of up to 4 % a side (from 0.994)
STORED, COMPARED = 48, 32  # cells a side of the copy that is kept, and of those that are compared
FREQUENCIES = 4  # a side, the lowest of the cosine transform, searched in the tree
TRIM = 0.015  # of the side: the step of the windows
SPANS = [(near * TRIM, 1 - far * TRIM) for near, far in ((0, 0), (1, 1), (2, 2), (2, 0), (0, 2), (1, 0), (0, 1))]
WINDOWS = [*product(SPANS, SPANS)]  # [down, across], the whole picture first
CROWD = 64  # neighbours in the tree with which a window is compared
BLOCK = 1 << 14  # pairs compared at once
SPREAD = 40  # cells of COMPARED ** 2 that at least must carry the picture's variance, in effect
CONTRAST = 2.0  # grey levels of 256: the least standard deviation of a picture that can be compared

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ImageHash:
    """What is kept of a picture, some 2.5 KB."""

    content: bytes  # digest of size and pixels, whatever the file format
    thumbnail: bytes  # STORED ** 2 grey values


def image_hash(image: "Image") -> ImageHash:
    """The hash of a decoded picture of any mode and size. Transparent parts are black, as they are in training."""
    from PIL import Image, ImageOps

    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith(("I", "F")):  # 16 bits and more: from darkest to brightest
        values = np.asarray(upright, dtype=np.float64)
        values = (values - values.min()) / max(float(np.ptp(values)), 1e-9)
        upright = Image.fromarray((255 * values).round().astype(np.uint8))
    pixels = Image.new("RGB", upright.size)
    coloured = upright.convert("RGBA")
    pixels.paste(coloured, mask=coloured)
    content = blake2b(repr(pixels.size).encode() + pixels.tobytes(), digest_size=16).digest()
    grey = pixels.convert("L").resize((STORED, STORED), Image.Resampling.BILINEAR)
    return ImageHash(content, grey.tobytes())


def image_pairs(rows: Iterable[tuple[str, ImageHash]], threshold: float = THRESHOLD) -> list[Pair]:
    """The near-duplicates among (id, hash), in order of the rows. Similarity is a correlation in [threshold, 1].

    Plain pictures, nearly black ones among them, have no shape to be told apart by: they are duplicates only when their
    pixels are equal. So are those with little but a caption in a corner (SPREAD). In a crowd, over CROWD pictures near
    to one in their lowest frequencies, the nearest are compared.
    """
    ids, hashes = [], []
    for row, each in rows:
        ids.append(row)
        hashes.append(each)
    copies = Copies.of(ids, np.array([each.content for each in hashes], dtype="S16"))
    thumbnails = np.frombuffer(b"".join(hashes[row].thumbnail for row in copies.first.tolist()), np.uint8)
    return copies.pairs(_near(thumbnails.reshape(-1, STORED, STORED), threshold), "image")


def _near(thumbnails: NDArray[np.uint8], threshold: float) -> Iterator[tuple[int, int, float]]:
    """(one, other, similarity) of the thumbnails [n, STORED, STORED] that reach the threshold, one < other."""
    from scipy.spatial import cKDTree

    whole = _compared(thumbnails, WINDOWS[0])
    shaped = np.flatnonzero(_has_shape(thumbnails, whole))
    if len(shaped) < 2:
        return
    thumbnails, whole = thumbnails[shaped], whole[shaped]
    sides = np.concatenate([whole, whole.reshape(-1, COMPARED, COMPARED)[:, :, ::-1].reshape(whole.shape)])
    tree = cKDTree(sides @ _cosines())
    radius = (2 * (1 - threshold)) ** 0.5 + 1e-4  # |a - b|^2 = 2 - 2 ab for vectors of length 1; and rounding
    best: dict[tuple[int, int], float] = {}
    for window in WINDOWS:
        seen = _compared(thumbnails, window)
        _, met = tree.query(seen @ _cosines(), k=CROWD, distance_upper_bound=radius)
        one, place = np.nonzero(met < len(sides))
        side = met[one, place]
        for start in range(0, len(one), BLOCK):
            ours, theirs = one[start : start + BLOCK], side[start : start + BLOCK]
            similar = np.einsum("pc,pc->p", seen[ours], sides[theirs])
            theirs = theirs % len(whole)
            close = (similar >= threshold) & (ours != theirs)
            found = zip(ours[close].tolist(), theirs[close].tolist(), similar[close].tolist(), strict=True)
            for a, b, value in found:
                pair = min(a, b), max(a, b)
                best[pair] = max(best.get(pair, 0.0), min(value, 1.0))
    yield from ((int(shaped[one]), int(shaped[other]), similarity) for (one, other), similarity in best.items())


def _has_shape(thumbnails: NDArray[np.uint8], whole: Array) -> NDArray[np.bool_]:
    """Whether a picture has contrast, and cells enough that carry it (the inverse participation ratio)."""
    contrast = thumbnails.reshape(len(thumbnails), STORED**2).std(axis=1)
    return (contrast >= CONTRAST) & ((whole**4).sum(axis=1) * SPREAD <= 1)


def _compared(thumbnails: NDArray[np.uint8], window: tuple[tuple[float, float], tuple[float, float]]) -> Array:
    """The window of each picture, COMPARED cells a side, as a vector of mean 0 and length 1: [n, cells]."""
    down, across = (_averages(*span) for span in window)
    cells = (down @ thumbnails.astype(np.float32) @ across.T).reshape(len(thumbnails), COMPARED**2)
    cells -= cells.mean(axis=1, keepdims=True)
    return cells / np.maximum(np.linalg.norm(cells, axis=1, keepdims=True), 1e-6)


@cache
def _averages(first: float, last: float) -> Array:
    """[COMPARED, STORED]: each cell's mean over its part of the stored ones between two fractions of the side."""
    edges = np.linspace(first * STORED, last * STORED, COMPARED + 1)[:, None]
    filled = np.clip(edges - np.arange(STORED), 0, 1)  # of each stored cell, what lies before each edge
    parts = np.diff(filled, axis=0)
    return (parts / parts.sum(axis=1, keepdims=True)).astype(np.float32)


@cache
def _cosines() -> Array:
    """[cells, FREQUENCIES ** 2 - 1]: the lowest frequencies of the orthonormal cosine transform but for the mean."""
    from scipy.fft import dct

    waves = dct(np.eye(COMPARED), norm="ortho", axis=0)[:FREQUENCIES]
    return np.einsum("uy,vx->yxuv", waves, waves).reshape(COMPARED**2, -1)[:, 1:].astype(np.float32)
