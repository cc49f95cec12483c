"""Near-duplicates among texts, and which rows to drop for them.

Texts are duplicates when their facts are equal (:mod:`grandrounds.domain.wording`) and their wording nearly so: a
Jaccard similarity of shingles of at least a threshold. Candidates come from MinHash bands (Broder 1997), whose key
holds the facts too: thousands of vignettes of one template that differ in a number never meet. Each candidate is then
checked exactly. Time and memory grow with the number of texts, not of pairs (docs/data-leakage.md has the figures).

Pictures are in :mod:`grandrounds.domain.pictures`.
"""

from collections.abc import Iterable, Iterator
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from grandrounds.domain import shingles, wording
from grandrounds.domain.copies import Copies, Pair
from grandrounds.records import Question

THRESHOLD = 0.85  # of the Jaccard similarity: two words of thirty changed, one of a short question not
CROWD = 100  # neighbours in a band with which a text is compared; a band that holds more is a template's
BLOCK = 256  # texts hashed at once: their shingles stay in the cache
PAIRS = 8192  # compared at once


def whole_text(question: Question) -> str:
    """What is asked, in the form that :func:`text_pairs` reads: the question on one line, then an option a line."""
    return "\n".join(" ".join(part.split()) for part in [question.question, *question.options])


def text_pairs(rows: Iterable[tuple[str, str]], threshold: float = THRESHOLD) -> list[Pair]:
    """The near-duplicates among (id, whole text), in order of the rows.

    The first line of a text is its question, each further line an option; case, accents, punctuation, white space and
    the order of options are free. A pair right at the threshold is found with probability 0.999, a nearer one surely.

    Of copies, only the pairs with the first are listed (:meth:`Copies.pairs`). In a crowd, over CROWD different texts
    that share a band, each is compared with those that share the next band too.
    """
    ids, normal, facts, keys = _read(rows)
    copies = Copies.of(ids, keys)
    texts = [normal[row] for row in copies.first.tolist()]
    return copies.pairs(_near(texts, facts[copies.first], threshold), "text")


def _read(rows: Iterable[tuple[str, str]]) -> tuple[list[str], list[bytes], NDArray[np.uint64], NDArray]:
    """Ids, normal forms, digests of the facts, and keys that are equal where form and facts are, each [rows]."""
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
    return ids, normal, keys["facts"].copy(), keys


def _near(texts: list[bytes], facts: NDArray[np.uint64], threshold: float) -> Iterator[tuple[int, int, float]]:
    """(one, other, similarity) of different texts with equal facts whose Jaccard similarity reaches the threshold."""
    count = len(texts)
    keys = np.empty((shingles.bands(threshold), count), np.uint64)
    for start in range(0, count, BLOCK):
        block = texts[start : start + BLOCK]
        keys[:, start : start + BLOCK] = shingles.band_keys(block, len(keys)).T
    keys += facts
    codes = np.unique(np.concatenate([_meeting(keys[band], keys[band - 1]) for band in range(len(keys))]))
    for start in range(0, len(codes), PAIRS):
        one, other = (each.tolist() for each in np.divmod(codes[start : start + PAIRS], count))
        similar = shingles.jaccard([texts[i] for i in one], [texts[j] for j in other])
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
