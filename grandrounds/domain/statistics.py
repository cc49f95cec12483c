"""Means and paired differences with 95 % intervals: the percentile bootstrap over clusters.

Questions of one group (a patient, a slab, an article) are not independent, so whole groups are drawn with replacement
(Davison & Hinkley 1997, section 3.8; Field & Welsh 2007). A missing value (None or NaN: unscored) is left out, never 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike

LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean or difference with its 95 % interval.

    `value` is None when nothing was scored; `low` and `high` are None when fewer than two clusters were, for one
    cluster says nothing of the spread between clusters. When all values are equal the interval has no width: read the
    n beside it.
    """

    value: float | None
    low: float | None
    high: float | None


class Resampler:
    """Bootstrap draws over the clusters of one set of rows, made once and used for every column of values.

    All intervals of one Resampler share their draws, so that those of two arms can be compared. The draws depend on the
    seed and the number of clusters only; clusters are taken in the order of their names, so the order of rows is free.
    """

    def __init__(self, groups: Sequence[str], resamples: int, seed: int) -> None:
        """`groups`: the cluster of each row, [n]. ValueError for no rows or fewer than one resample."""
        import numpy as np

        if len(groups) == 0 or resamples < 1:
            raise ValueError(f"rows and resamples are wanted, not {len(groups)} and {resamples}")
        names, self._cluster = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
        self._clusters = len(names)
        drawn = np.random.default_rng(seed).integers(self._clusters, size=(resamples, self._clusters))
        drawn += np.arange(resamples)[:, None] * self._clusters
        counts = np.bincount(drawn.ravel(), minlength=resamples * self._clusters)
        # [resamples, clusters]: how often each cluster was drawn; float, for the matrix product below
        self._counts = counts.reshape(resamples, self._clusters).astype(np.float64)

    def mean(self, values: ArrayLike) -> Interval:
        """The mean over all scored rows of values [n], with its interval."""
        return self._interval(self._column(values))

    def difference(self, values_a: ArrayLike, values_b: ArrayLike) -> Interval:
        """The paired difference mean(a - b) over the rows [n] that are scored in both, with its interval."""
        return self._interval(self._column(values_a) - self._column(values_b))

    def _column(self, values: ArrayLike) -> np.ndarray:
        import numpy as np

        column = np.asarray(values, dtype=np.float64)  # None becomes NaN
        if column.shape != self._cluster.shape:
            raise ValueError(f"{len(self._cluster)} rows were given to resample, but {column.shape} values")
        return column

    def _interval(self, column: np.ndarray) -> Interval:
        import numpy as np

        scored = ~np.isnan(column)
        cluster, column = self._cluster[scored], column[scored]
        if not len(column):
            return Interval(None, None, None)
        value = float(column.sum() / len(column))
        if len(np.unique(cluster)) < 2:
            return Interval(value, None, None)
        sums = np.bincount(cluster, weights=column, minlength=self._clusters)
        sizes = np.bincount(cluster, minlength=self._clusters).astype(np.float64)
        totals, counts = self._counts @ sums, self._counts @ sizes
        drawn = counts > 0  # a draw may hold only clusters without a score
        means = totals[drawn] / counts[drawn]
        low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return Interval(value, float(low), float(high))
