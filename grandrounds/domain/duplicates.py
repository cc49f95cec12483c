"""Near-duplicates among texts, and which rows to drop for them.

Texts are duplicates when their facts are equal (:mod:`grandrounds.domain.wording`) and their wording nearly so: a
Jaccard similarity of shingles of at least a threshold. Candidates come from MinHash bands (Broder 1997), whose key
holds the facts too: thousands of vignettes of one template that differ in a number never meet. Each candidate is then
checked exactly. Time and memory grow with the number of texts, not of pairs (docs/data-leakage.md has the figures).

Pictures are in :mod:`grandrounds.domain.pictures`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from grandrounds.domain import shingles, wording
from grandrounds.records import Question

THRESHOLD = 0.85  # of the Jaccard similarity: two words of thirty changed, one of a short question not
CROWD = 100  # neighbours in a band with which a text is compared; a band that holds more is a template's
BLOCK = 256  # texts hashed at once: their shingles stay in the cache
PAIRS = 8192  # compared at once


@dataclass(frozen=True, slots=True)
class Pair:
    """Two rows that are one thing, `first` the earlier in order of the rows."""

    first: str
    second: str
    what: Literal["text", "image"]
    similarity: float  # text: Jaccard, in [threshold, 1]; image: see pictures.image_pairs
    exact: bool  # text: equal normal forms; image: equal pixels


def whole_text(question: Question) -> str:
    """What is asked, in the form that :func:`text_pairs` reads: the question on one line, then an option a line."""
    return "\n".join(" ".join(part.split()) for part in [question.question, *question.options])


def text_pairs(rows: Iterable[tuple[str, str]], threshold: float = THRESHOLD) -> list[Pair]:
    """The near-duplicates among (id, whole text), in order of the rows.

    The first line of a text is its question, each further line an option; case, accents, punctuation, white space and
    the order of options are free. A pair right at the threshold is found with probability 0.999, a nearer one surely.

    Of many copies of a text every one is paired with the first, and so is every copy of a near text: the list grows
    with the copies, not with their square, and every row that has a duplicate before it is the second of a pair. In a
    crowd, over CROWD different texts that share a band, each is compared with those that share the next band too.
    """
    texts = _read(rows)
    found: dict[tuple[int, int], tuple[float, bool]] = {}
    for text in np.flatnonzero(texts.counts > 1).tolist():
        first, *others = texts.copies(text)
        found |= {(first, other): (1.0, True) for other in others}
    for one, other, similarity in _near(texts, threshold):
        ours, theirs = texts.copies(one), texts.copies(other)
        for a, b in [*((ours[0], b) for b in theirs), *((a, theirs[0]) for a in ours)]:
            found[min(a, b), max(a, b)] = similarity, False
    return [Pair(texts.ids[a], texts.ids[b], "text", *found[a, b]) for a, b in sorted(found)]


def keepers(order: Iterable[str], pairs: Iterable[Pair]) -> dict[str, Pair]:
    """The rows to drop, each with the pair that says which row stays in its place.

    A row goes when it is itself a duplicate of a row before it that stays, never by a chain: of a, b, c of which b is
    near to both and a not near to c, only b goes.
    """
    by_second: dict[str, list[Pair]] = {}
    for pair in pairs:
        by_second.setdefault(pair.second, []).append(pair)
    dropped: dict[str, Pair] = {}
    for row in order:
        kept = [pair for pair in by_second.get(row, ()) if pair.first not in dropped]
        if kept:
            dropped[row] = max(kept, key=lambda pair: pair.similarity)
    return dropped


@dataclass(frozen=True, slots=True)
class _Texts:
    """The rows, and the different texts among them in the order of their digests, which no order of rows changes."""

    ids: list[str]
    normal: list[bytes]  # [texts]
    facts: NDArray[np.uint64]  # [texts] digests
    counts: NDArray[np.int64]  # [texts] rows of each
    _rows: NDArray[np.int64]  # [rows] by text, each text's ascending
    _ends: NDArray[np.int64]  # [texts]

    def copies(self, text: int) -> list[int]:
        """The rows of one text, ascending."""
        return self._rows[self._ends[text] - self.counts[text] : self._ends[text]].tolist()


def _read(rows: Iterable[tuple[str, str]]) -> _Texts:
    ids: list[str] = []
    normal: list[bytes] = []
    digests = bytearray()
    for row, text in rows:
        form, facts = wording.read(text)
        ids.append(row)
        normal.append(form.encode())
        for part in (repr(tuple(facts)).encode(), normal[-1]):
            digests += blake2b(part, digest_size=8).digest()
    keys = np.frombuffer(digests, np.dtype([("facts", "<u8"), ("text", "<u8")]))
    different, first, which, counts = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
    chosen = [normal[row] for row in first.tolist()]
    return _Texts(ids, chosen, different["facts"].copy(), counts, np.argsort(which, kind="stable"), np.cumsum(counts))


def _near(texts: _Texts, threshold: float) -> Iterator[tuple[int, int, float]]:
    """(one, other, similarity) of different texts with equal facts whose Jaccard similarity reaches the threshold."""
    count = len(texts.normal)
    keys = np.empty((shingles.bands(threshold), count), np.uint64)
    for start in range(0, count, BLOCK):
        block = texts.normal[start : start + BLOCK]
        keys[:, start : start + BLOCK] = shingles.band_keys(block, len(keys)).T
    keys += texts.facts
    codes = np.unique(np.concatenate([_meeting(keys[band], keys[band - 1]) for band in range(len(keys))]))
    for start in range(0, len(codes), PAIRS):
        one, other = (each.tolist() for each in np.divmod(codes[start : start + PAIRS], count))
        similar = shingles.jaccard([texts.normal[i] for i in one], [texts.normal[j] for j in other])
        for place in np.flatnonzero(similar >= threshold).tolist():
            yield one[place], other[place], float(similar[place])


def _meeting(keys: NDArray[np.uint64], others: NDArray[np.uint64]) -> NDArray[np.int64]:
    """one * count + other, one < other, of texts with equal keys [count]; in a crowd, of those near by their others."""
    order = np.argsort(keys, kind="stable")
    alone = np.ones(len(keys), bool)
    same = keys[order[1:]] == keys[order[:-1]]
    alone[order[1:][same]] = alone[order[:-1][same]] = False
    crowded = np.flatnonzero(~alone)
    order = crowded[np.lexsort((others[crowded], keys[crowded]))]
    codes = []
    for step in range(1, CROWD + 1):
        meet = keys[order[step:]] == keys[order[:-step]]
        if not meet.any():
            break
        one, other = order[:-step][meet], order[step:][meet]
        codes.append(np.minimum(one, other) * len(keys) + np.maximum(one, other))
    return np.concatenate(codes) if codes else np.empty(0, np.int64)


def rows(questions: Sequence[Question]) -> Iterator[tuple[str, str]]:
    """(id, whole text) of each question."""
    return ((question.id, whole_text(question)) for question in questions)
