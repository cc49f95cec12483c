"""How far two updates disagree, module by module: what a merge has to reconcile, and where.

Two seeds of one specialty (a specialist and its twin) give the null: the disagreement that training noise alone makes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations
from statistics import fmean
from typing import TYPE_CHECKING

from grandrounds.domain.adapters import LoraFactors, LoraUpdate, all_modules, layer_of
from grandrounds.records import Conflict

if TYPE_CHECKING:
    from torch import Tensor

MEASURES = ("cosine", "sign_disagreement", "interference", "overlap_in", "overlap_out")
ROWS = 256  # of two dense updates compared at once


def compare(first: str, one: LoraUpdate, second: str, two: LoraUpdate, null: bool = False) -> list[Conflict]:
    """One row for each module that both update, of the pair named `first` and `second`; `null` marks two seeds of one
    specialty. UserError, naming the module, where their shapes differ.
    """
    modules = [each for each in all_modules({first: one, second: two}) if each in one and each in two]
    return [_conflict(module, first, one[module], second, two[module], null) for module in modules]


def compare_all(updates: Mapping[str, LoraUpdate], twin: tuple[str, str, LoraUpdate] | None = None) -> list[Conflict]:
    """Every pair of updates, in the order of names, then the null: `twin` is (specialist, name of its twin, update)."""
    rows = [row for a, b in combinations(sorted(updates), 2) for row in compare(a, updates[a], b, updates[b])]
    if twin is not None:
        of, name, update = twin
        rows += compare(of, updates[of], name, update, null=True)
    return rows


def kind_of(module: str) -> str:
    """The last part of a module's name, which all layers share: `q_proj`."""
    return module.rpartition(".")[2]


def mean_by(rows: Iterable[Conflict], key: Callable[[Conflict], object], measure: str) -> dict:
    """Unweighted means of one measure over the rows of each key, in the order that the keys appear."""
    groups: dict[object, list[float]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(getattr(row, measure))
    return {name: fmean(values) for name, values in groups.items()}


def pair_means(rows: Iterable[Conflict]) -> list[dict[str, str | bool | float]]:
    """Unweighted means over modules for each pair, in the order of the rows."""
    groups: dict[tuple[str, str, bool], list[Conflict]] = {}
    for row in rows:
        groups.setdefault((row.first, row.second, row.null), []).append(row)
    found = []
    for (first, second, null), group in groups.items():
        means: dict[str, str | bool | float] = {"first": first, "second": second, "null": null}
        found.append(means | {measure: fmean(getattr(row, measure) for row in group) for measure in MEASURES})
    return found


def hardest(rows: Sequence[Conflict]) -> str:
    """Which two updates fight, where: one sentence. By interference, the part of two updates that cancels in their sum.

    "" when there is no pair. The null is named beside it where there is one: what training noise alone does.
    """
    real = [row for row in rows if not row.null]
    if not real:
        return ""
    pairs = mean_by(real, lambda row: (row.first, row.second), "interference")
    first, second = max(pairs, key=lambda pair: pairs[pair])
    own = [row for row in real if (row.first, row.second) == (first, second)]
    layers = mean_by(own, lambda row: row.layer, "interference")
    layer = max(layers, key=lambda each: layers[each])
    worst = max(own, key=lambda row: row.interference)
    where = f"most in layer {layer} ({100 * layers[layer]:.1f} %) and there" if layer >= 0 else "most"
    if worst.layer != layer:
        where = f"most in layer {layer} ({100 * layers[layer]:.1f} %); of single modules"
    told = (
        f"{first} and {second} fight most: {100 * pairs[first, second]:.1f} % of their updates cancel, {where} in "
        f"{worst.module} ({100 * worst.interference:.1f} %)"
    )
    null = [row.interference for row in rows if row.null]
    return f"{told}; two seeds of one specialty: {100 * fmean(null):.1f} %" if null else told


def _conflict(module: str, first: str, one: LoraFactors, second: str, two: LoraFactors, null: bool) -> Conflict:
    """Sign disagreement is weighted by sqrt |a b|, so that entries near zero in either count little. A zero update
    disagrees with nothing: all measures are 0 then, and its angles 90 degrees.
    """
    import torch

    total = against = product = cancelled = norm_a = norm_b = 0.0
    for start in range(0, one.shape[0], ROWS):
        a, b = (
            each.scale * (each.b[start : start + ROWS].double() @ each.a.double()) for each in (one, two)
        )  # exact, and never whole
        both = a * b
        weight = both.abs().sqrt()
        fights = both < 0
        total += float(weight.sum())
        against += float(weight[fights].sum())
        product += float(both.sum())
        cancelled += float(torch.minimum(a.abs(), b.abs())[fights].square().sum())
        norm_a += float(a.square().sum())
        norm_b += float(b.square().sum())
    norm = math.sqrt(norm_a * norm_b)
    out, within = _cosines(one.b, two.b), _cosines(one.a.T, two.a.T)
    return Conflict(
        module=module,
        layer=layer_of(module),
        first=first,
        second=second,
        null=null,
        sign_disagreement=min(1.0, against / total) if total > 0 else 0.0,
        cosine=max(-1.0, min(1.0, product / norm)) if norm > 0 else 0.0,
        interference=min(1.0, math.sqrt(cancelled / norm)) if norm > 0 else 0.0,
        overlap_out=float(out.square().mean()),
        overlap_in=float(within.square().mean()),
        angle_out=math.degrees(math.acos(float(out.max()))),
        angle_in=math.degrees(math.acos(float(within.max()))),
        first_norm=math.sqrt(norm_a),
        second_norm=math.sqrt(norm_b),
    )


def _cosines(one: Tensor, two: Tensor) -> Tensor:
    """Cosines of the principal angles between the column spaces [n, r1] and [n, r2] (Björck and Golub 1973)."""
    import torch

    bases = [_basis(each) for each in (one, two)]
    if not all(basis.shape[1] for basis in bases):
        return torch.zeros(1, dtype=torch.float64)
    return torch.linalg.svdvals(bases[0].T @ bases[1]).clamp(max=1.0)


def _basis(columns: Tensor) -> Tensor:
    import torch

    left, values, _ = torch.linalg.svd(columns.double(), full_matrices=False)
    return left[:, values > values[0] * torch.finfo(torch.float32).eps]
