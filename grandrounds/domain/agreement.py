"""How far raters agree beyond chance: Cohen's kappa for two (1960), Fleiss' for more (1971), with 95 % intervals.

Intervals are percentile bootstraps over clusters, as in :mod:`grandrounds.domain.statistics`: the answers of all arms
to one question are not independent, so whole groups of questions are drawn. Kappa is undefined (None) where chance
alone would always agree, as when all ratings are the same; draws of that kind are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    # weights of clusters [draws, clusters] -> (observed agreement, kappa), [draws] each
    Kappas = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]

LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Kappa:
    """`observed` is the share of agreeing pairs of ratings, n the number of items that all raters rated."""

    n: int
    observed: float | None
    value: float | None
    low: float | None
    high: float | None


def cohen(
    first: Sequence[int | None], second: Sequence[int | None], groups: Sequence[str], resamples: int, seed: int
) -> Kappa:
    """Two raters' categories of each item [n], None where one gave none; `groups`: the cluster of each item [n]."""
    import numpy as np

    kept = [(a, b, g) for a, b, g in zip(first, second, groups, strict=True) if a is not None and b is not None]
    if not kept:
        return Kappa(0, None, None, None, None)
    categories, codes = np.unique([[a, b] for a, b, _ in kept], return_inverse=True)
    codes = codes.reshape(-1, 2)
    cells = np.zeros((len(kept), len(categories), len(categories)))
    cells[np.arange(len(kept)), codes[:, 0], codes[:, 1]] = 1.0

    def kappas(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        tables = np.tensordot(weights, _by_cluster(cells, clusters), axes=1)  # [draws, categories, categories]
        shares = tables / tables.sum(axis=(1, 2), keepdims=True)
        observed = np.trace(shares, axis1=1, axis2=2)
        expected = (shares.sum(axis=2) * shares.sum(axis=1)).sum(axis=1)
        return observed, _beyond_chance(observed, expected)

    clusters = _clusters([g for _, _, g in kept])
    return _estimate(len(kept), clusters, kappas, resamples, seed)


def fleiss(ratings: Sequence[Sequence[int | None]], groups: Sequence[str], resamples: int, seed: int) -> Kappa:
    """Ratings [items, raters] of two raters or more; an item that a rater left out is left out."""
    import numpy as np

    kept = [(row, g) for row, g in zip(ratings, groups, strict=True) if None not in row]
    if not kept or len(kept[0][0]) < 2:
        return Kappa(0, None, None, None, None)
    categories, codes = np.unique([row for row, _ in kept], return_inverse=True)
    counts = np.eye(len(categories))[codes.reshape(len(kept), -1)].sum(axis=1)  # [items, categories]
    raters = counts.sum(axis=1)[0]
    agreeing = (counts * (counts - 1)).sum(axis=1) / (raters * (raters - 1))

    def kappas(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        items = weights @ _by_cluster(np.ones(len(kept)), clusters)
        observed = weights @ _by_cluster(agreeing, clusters) / items
        shares = weights @ _by_cluster(counts, clusters) / (items * raters)[:, None]
        return observed, _beyond_chance(observed, (shares**2).sum(axis=1))

    clusters = _clusters([g for _, g in kept])
    return _estimate(len(kept), clusters, kappas, resamples, seed)


def _clusters(groups: Sequence[str]) -> np.ndarray:
    """The number of each item's cluster, clusters in the order of their names."""
    import numpy as np

    return np.unique(np.asarray(groups, dtype=str), return_inverse=True)[1]


def _by_cluster(values: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """Sums of values [n, ...] in each cluster [clusters, ...]."""
    import numpy as np

    sums = np.zeros((clusters.max() + 1, *values.shape[1:]))
    np.add.at(sums, clusters, values)
    return sums


def _beyond_chance(observed: np.ndarray, expected: np.ndarray) -> np.ndarray:
    import numpy as np

    room = 1 - expected
    defined = room > 1e-12
    return np.where(defined, (observed - expected) / np.where(defined, room, 1.0), np.nan)


def _estimate(n: int, clusters: np.ndarray, kappas: Kappas, resamples: int, seed: int) -> Kappa:
    import numpy as np

    size = int(clusters.max()) + 1
    observed, value = (float(each[0]) for each in kappas(np.ones((1, size))))
    if np.isnan(value):
        return Kappa(n, observed, None, None, None)
    if size < 2:
        return Kappa(n, observed, value, None, None)
    drawn = np.random.default_rng(seed).multinomial(size, np.full(size, 1 / size), size=resamples)
    values = kappas(drawn.astype(float))[1]
    low, high = np.quantile(values[~np.isnan(values)], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Kappa(n, observed, value, float(low), float(high))
