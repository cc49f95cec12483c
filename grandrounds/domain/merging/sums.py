"""Merges that add: task arithmetic, and DARE's random drops before a sum or an election."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from grandrounds.domain.adapters import LoraFactors
from grandrounds.domain.merging.entries import by_rows, column, elected_mean
from grandrounds.domain.merging.inputs import Inputs

if TYPE_CHECKING:
    from torch import Tensor


def linear(inputs: Inputs) -> LoraFactors:
    """Task arithmetic (2212.04089): sum_i w_i dW_i as a longer LoRA, exactly. Two equal updates double."""
    import torch

    scales = [weight * each.scale for weight, each in zip(inputs.weights.tolist(), inputs.factors, strict=True)]
    a = torch.cat([each.a.float() for each in inputs.factors])
    b = torch.cat([scale * each.b.float() for scale, each in zip(scales, inputs.factors, strict=True)], dim=1)
    return LoraFactors(a, b)


def drop(updates: Tensor, densities: Tensor, seeds: Sequence[int]) -> Tensor:
    """DARE (2311.03099): each entry of update i stays with probability density_i, and is divided by it.

    The draw of an update depends on its seed and shape alone. Density 1 changes nothing.
    """
    import torch

    dropped = torch.empty_like(updates)
    for place, (update, density, seed) in enumerate(zip(updates, densities.tolist(), seeds, strict=True)):
        chance = torch.rand(update.shape, generator=torch.Generator().manual_seed(seed))
        dropped[place] = torch.where(chance < density, update / density, 0)
    return dropped


def dare_linear(updates: Tensor, weights: Tensor, densities: Tensor, seeds: Sequence[int]) -> Tensor:
    """DARE, then the weighted sum: [N, out, in] -> [out, in]. Its expectation over seeds is the linear merge."""
    factors = column(weights.to(updates.dtype))
    return by_rows(lambda block: (factors * block).sum(dim=0), drop(updates, densities, seeds))


def dare_ties(updates: Tensor, weights: Tensor, densities: Tensor, seeds: Sequence[int]) -> Tensor:
    """DARE in the place of TIES' trim, then its election and average: [N, out, in] -> [out, in]."""
    factors = column(weights.to(updates.dtype))
    return by_rows(lambda block: elected_mean(factors * block, factors), drop(updates, densities, seeds))
