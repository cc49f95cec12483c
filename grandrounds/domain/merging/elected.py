"""Merges that elect a sign: TIES on entries, and KnOTS, which does it in the basis that the updates share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grandrounds.domain.adapters import LoraFactors
from grandrounds.domain.merging.entries import by_rows, column, elected_mean, thresholds, trimmed
from grandrounds.domain.merging.inputs import Inputs

if TYPE_CHECKING:
    from torch import Tensor


def ties(updates: Tensor, weights: Tensor, densities: Tensor) -> Tensor:
    """TIES (2306.01708): [N, out, in] -> [out, in]. Trim, elect a sign, average what agrees with it.

    Trim: each update keeps the `density` share of its entries of this module that is largest by magnitude.
    Elect: the sign of sum_i w_i dW_i over the trimmed entries.
    Average: sum of w_i dW_i over sum of |w_i|, over the entries that carry the elected sign; trimmed ones do not count.
    """
    cut, factors = column(thresholds(updates, densities)), column(weights.to(updates.dtype))
    return by_rows(lambda block: elected_mean(trimmed(block, cut, factors), factors), updates)


def knots(inputs: Inputs) -> LoraFactors:
    """KnOTS (2410.19735): TIES on the updates in the basis that they share.

    [dW_1 ... dW_N] = U S [V_1 ... V_N] by SVD; the S V_i are merged by TIES and U put before them again. The columns
    of all dW_i lie in the span of the B's, so that the SVD is of a matrix with sum-of-ranks rows, and no dense update
    is made. The result has at most sum-of-ranks rank, exactly.
    """
    import torch

    left = torch.cat([each.scale * each.b.double() for each in inputs.factors], dim=1)  # [out, R]
    basis, triangle = torch.linalg.qr(left)
    parts = torch.split(triangle, [each.rank for each in inputs.factors], dim=1)
    inside = [part @ each.a.double() for part, each in zip(parts, inputs.factors, strict=True)]  # [R, in] each
    turn, values, _ = torch.linalg.svd(torch.cat(inside, dim=1), full_matrices=False)
    turn = turn[:, values > values[0] * torch.finfo(torch.float32).eps]
    if not turn.shape[1]:  # nothing but zeros
        return LoraFactors(torch.zeros(1, inside[0].shape[1]), torch.zeros(left.shape[0], 1))
    stack = torch.stack([turn.T @ each for each in inside])
    merged = ties(stack, inputs.weights.double(), inputs.densities)
    return LoraFactors(merged.float(), (basis @ turn).float())
