"""Pairs of rows that are one thing, and how few of them say it all when many rows are copies."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

What = Literal["text", "image"]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two rows that are one thing, `first` the earlier in order of the rows."""

    first: str
    second: str
    what: What
    similarity: float  # text: Jaccard of shingles; image: correlation of grey values; both in [threshold, 1]
    exact: bool  # text: equal normal forms; image: equal pixels


@dataclass(frozen=True, slots=True)
class Copies:
    """The rows of each different thing. Things are in the order of their keys, which no order of rows changes."""

    ids: Sequence[str]  # [rows]
    first: NDArray[np.int64]  # [things] the first row of each
    counts: NDArray[np.int64]  # [things] rows of each
    _rows: NDArray[np.int64]  # [rows] by thing, each thing's ascending
    _ends: NDArray[np.int64]  # [things]

    @classmethod
    def of(cls, ids: Sequence[str], keys: NDArray) -> "Copies":
        """Rows with equal keys [rows] are copies."""
        _, first, which, counts = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
        return cls(ids, first, counts, np.argsort(which, kind="stable"), np.cumsum(counts))

    def rows(self, thing: int) -> list[int]:
        """The rows of one thing, ascending."""
        return self._rows[self._ends[thing] - self.counts[thing] : self._ends[thing]].tolist()

    def pairs(self, near: Iterable[tuple[int, int, float]], what: What) -> list[Pair]:
        """The pairs of rows, in their order, that follow from copies and from near things (one, other, similarity).

        Every copy is paired with the first, and with the first of each near thing: as many pairs as copies, not their
        square. So every row that has a duplicate before it is the second of a pair.
        """
        found: dict[tuple[int, int], tuple[float, bool]] = {}
        for thing in np.flatnonzero(self.counts > 1).tolist():
            first, *others = self.rows(thing)
            found |= {(first, other): (1.0, True) for other in others}
        for one, other, similarity in near:
            ours, theirs = self.rows(one), self.rows(other)
            for a, b in [*((ours[0], b) for b in theirs), *((a, theirs[0]) for a in ours)]:
                found[min(a, b), max(a, b)] = similarity, False
        return [Pair(self.ids[a], self.ids[b], what, *found[a, b]) for a, b in sorted(found)]


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
