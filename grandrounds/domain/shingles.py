"""Sets of shingles, their Jaccard similarity, and MinHash (Broder 1997) with banding, over many texts at once.

A shingle is five consecutive bytes of a text, packed into an integer: short enough for a typing error to spoil few of
them, long enough to be rare. Texts come and go by the block, so that memory is bounded by the block, and what stays of
a text is one key a band. datasketch is the reference (tests and `benchmarks/curate_scale.py` stand beside it); its
objects, one a text, are what this module does without.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SHINGLE = 5  # bytes
ROWS = 8  # minima a band: two texts that share a fifth of their shingles meet in one band of 400,000
RECALL = 0.999  # of the pairs right at the threshold; nearer ones are found surely
LEAST = 0.6  # threshold: below it, bands grow into the hundreds and so does the memory of a text

_MIX = np.uint64(0x9E3779B97F4A7C15)  # odd, its bits even-handed: 2^64 over the golden ratio (Knuth, TAOCP 3, 6.4)

Packed = tuple[NDArray[np.uint64], NDArray[np.int64]]


def bands(threshold: float) -> int:
    """How many bands of ROWS minima find a pair of Jaccard similarity `threshold` with probability RECALL.

    A band agrees with probability threshold ** ROWS (Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, 3.4).
    """
    if not LEAST <= threshold <= 1:
        raise ValueError(f"a threshold from {LEAST} to 1 is wanted, not {threshold}")
    return 1 if threshold == 1 else math.ceil(math.log(1 - RECALL) / math.log(1 - threshold**ROWS))


def pack(texts: Sequence[bytes]) -> Packed:
    """All shingles of each text in turn, as integers below 2^40, and where each text's begin, [texts].

    A text shorter than a shingle is filled up with zeros, so that every text has one. Repeated shingles stay.
    """
    filled = [text.ljust(SHINGLE, b"\0") for text in texts]
    lengths = np.fromiter(map(len, filled), np.int64, len(filled))
    ends = np.cumsum(lengths)
    raw = np.frombuffer(b"".join([*filled, bytes(SHINGLE - 1)]), np.uint8).astype(np.uint64)
    whole = np.ones(len(raw) - SHINGLE + 1, bool)
    packed = np.zeros(len(whole), np.uint64)
    for place in range(SHINGLE):
        packed = (packed << np.uint64(8)) | raw[place : place + len(whole)]
    for place in range(1, SHINGLE):
        whole[ends - place] = False  # these begin in one text and end in the next
    counts = lengths - (SHINGLE - 1)
    return packed[whole], np.cumsum(counts) - counts


def band_keys(texts: Sequence[bytes], count: int) -> NDArray[np.uint64]:
    """Keys [texts, count]: two texts agree in a band with probability (Jaccard similarity) ** ROWS."""
    packed, starts = pack(texts)
    minima = sketch(packed, starts, count * ROWS).astype(np.uint64).reshape(len(texts), count, ROWS)
    weights = np.random.default_rng(1).integers(1 << 63, size=ROWS, dtype=np.uint64) | np.uint64(1)
    return (minima * weights).sum(axis=2, dtype=np.uint64)


def sketch(packed: NDArray[np.uint64], starts: NDArray[np.int64], permutations: int) -> NDArray[np.uint32]:
    """The smallest hash of each text's shingles under each permutation, [texts, permutations].

    The permutations are h -> (h ^ salt) * odd modulo 2^32, fixed once and for all, of one hash of the shingle.
    """
    mixed = (packed ^ (packed >> np.uint64(23))) * _MIX
    hashes = ((mixed ^ (mixed >> np.uint64(29))) * _MIX >> np.uint64(32)).astype(np.uint32)
    salts, factors = np.random.default_rng(0).integers(1 << 32, size=(2, permutations), dtype=np.uint32)
    factors |= np.uint32(1)
    minima = np.empty((permutations, len(starts)), np.uint32)
    permuted = np.empty_like(hashes)
    for row, (salt, factor) in enumerate(zip(salts, factors, strict=True)):
        np.bitwise_xor(hashes, salt, out=permuted)
        np.multiply(permuted, factor, out=permuted)
        np.minimum.reduceat(permuted, starts, out=minima[row])
    return minima.T


def jaccard(first: Sequence[bytes], second: Sequence[bytes]) -> NDArray[np.float64]:
    """The Jaccard similarity of the shingle sets of first[i] and second[i], [pairs]: exact, for at most 2^24 pairs."""
    ours, theirs = _sets(first), _sets(second)
    both = np.sort(np.concatenate([ours, theirs]))
    shared = _count(both[1:][both[1:] == both[:-1]], len(first))
    return shared / (_count(ours, len(first)) + _count(theirs, len(first)) - shared)


def _sets(texts: Sequence[bytes]) -> NDArray[np.uint64]:
    """The shingles of each text without repetitions, each behind the number of its text."""
    packed, starts = pack(texts)
    sizes = np.diff(np.append(starts, len(packed)))
    return np.unique(np.repeat(np.arange(len(texts), dtype=np.uint64) << np.uint64(40), sizes) | packed)


def _count(numbered: NDArray[np.uint64], texts: int) -> NDArray[np.int64]:
    return np.bincount((numbered >> np.uint64(40)).astype(np.int64), minlength=texts)
