"""Merging of LoRA updates into one, on the exact updates dW = scale * B A, module by module.

A method is a function (updates [N, out, in], weights [N], parameters) -> merged update [out, in]; all of them stand in
:data:`METHODS`. The merged dense update is cut back to a LoRA of the asked rank, and what that costs is reported.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from grandrounds.domain.adapters import LoraUpdate, same_modules, truncate
from grandrounds.errors import UserError, unknown
from grandrounds.params import Linear, Ties
from grandrounds.records import MergeReport

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class MergedUpdate:
    """The merged update, and one row for each module, by name."""

    update: LoraUpdate
    report: list[MergeReport]


@dataclass(frozen=True, slots=True)
class Method:
    paper: str
    function: Callable[[Tensor, Tensor, Any], Tensor]


def merge(
    updates: Mapping[str, LoraUpdate], weights: Mapping[str, float], method: Ties | Linear, rank: int
) -> MergedUpdate:
    """Merge named updates of one base model into one LoRA of at most `rank` a module.

    Updates are taken in the order of their names, so the order of the mapping changes no bit. `weights` may leave
    names out: those weigh 1. UserError for an unknown or infinite weight, for no update at all, and for a module that
    an update lacks or has in another shape.
    """
    import torch

    modules = same_modules(updates)
    names = sorted(updates)
    for name, weight in weights.items():
        if name not in updates:
            raise unknown("update in the merge weights", name, names)
        if not math.isfinite(weight):
            raise UserError(f"merge weight of '{name}' is {weight}; a finite number is wanted")
    factors = torch.tensor([float(weights.get(name, 1.0)) for name in names])
    function = METHODS[method.type].function
    merged, report = {}, []
    for module in modules:
        dense = function(torch.stack([updates[name][module].dense() for name in names]), factors, method)
        merged[module], error = truncate(dense, rank)
        report.append(MergeReport(module, merged[module].rank, float(dense.double().norm()), error))
    return MergedUpdate(LoraUpdate(merged, "merged update"), report)


def linear(updates: Tensor, weights: Tensor, params: Linear) -> Tensor:
    """Task arithmetic (2212.04089): scale * sum_i w_i dW_i. Weights are not normalised: two equal updates double."""
    return params.scale * (weights.view(-1, 1, 1) * updates).sum(dim=0)


def ties(updates: Tensor, weights: Tensor, params: Ties) -> Tensor:
    """TIES (2306.01708): trim, elect a sign, average what agrees with it; times scale.

    Trim: each update keeps the `density` share of its entries of this module that is largest by magnitude (all entries
    equal to the smallest one kept stay too, so that the choice does not depend on their order).
    Elect: the sign of sum_i w_i dW_i over the trimmed entries.
    Average: sum of w_i dW_i over sum of |w_i|, over the entries that carry the elected sign; trimmed ones do not count.

    Degenerate cases: where the weighted sum is exactly 0 no sign is elected and the entry is 0, so that negating all
    updates negates the merge. Equal updates at density 1 give that update, times scale. One update gives its trimmed
    self. An update of weight 0 takes no part.
    """
    import torch

    factors = weights.view(-1, 1, 1)
    signed = factors * trim(updates, params.density)
    elected = torch.sign(signed.sum(dim=0))
    agrees = signed * elected > 0
    total = torch.where(agrees, signed, 0).sum(dim=0)
    weight = torch.where(agrees, factors.abs(), 0).sum(dim=0)
    return params.scale * torch.where(weight > 0, total / weight, 0)


def trim(updates: Tensor, density: float) -> Tensor:
    """Each update [out, in] of the stack with all but its largest entries set to 0; at least one entry stays."""
    import torch

    magnitude = updates.abs().flatten(start_dim=1)
    size = magnitude.shape[1]
    kept = min(size, max(1, round(density * size)))
    threshold = torch.kthvalue(magnitude, size - kept + 1, dim=1).values.view(-1, 1, 1)
    return torch.where(updates.abs() >= threshold, updates, 0)


METHODS: dict[str, Method] = {
    "linear": Method("Task arithmetic, arXiv 2212.04089", linear),
    "ties": Method("TIES, arXiv 2306.01708", ties),
}
