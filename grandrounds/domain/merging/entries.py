"""What methods on entries have in common: the threshold of a trim, and a walk over rows that keeps memory small."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

BLOCK = 2**15  # entries of one update in a block of rows: N of them and what is made of them fit into a core's cache
TINY = 1e-30  # under every weight; nothing is divided by it that is not 0


def thresholds(updates: Tensor, densities: Tensor) -> Tensor:
    """[N]: the smallest magnitude that each update [out, in] keeps of its `density` share of largest entries.

    Exact: a partition, not a sample. At least one entry is kept, and all that are equal to the smallest one, so that
    the choice does not depend on their order. Density 1 keeps everything (threshold 0).
    """
    import torch

    found = []
    for update, density in zip(updates, densities.tolist(), strict=True):
        size = update.numel()
        kept = min(size, max(1, round(density * size)))
        if kept == size:
            found.append(0.0)
            continue
        magnitude = update.abs().flatten().numpy()  # fresh memory, so it may be partitioned in place
        magnitude.partition(size - kept)
        found.append(float(magnitude[size - kept]))
    return torch.tensor(found, dtype=updates.dtype)


def by_rows(function: Callable[[Tensor], Tensor], updates: Tensor) -> Tensor:
    """`function` of blocks [N, rows, in] of the updates, put together to [out, in]. It must treat every entry alone."""
    import torch

    _, rows, width = updates.shape
    merged = torch.empty(rows, width, dtype=updates.dtype)
    step = max(1, BLOCK // width)
    for start in range(0, rows, step):
        merged[start : start + step] = function(updates[:, start : start + step])
    return merged


def column(values: Tensor) -> Tensor:
    """[N] as [N, 1, 1], to go with [N, out, in]."""
    return values.view(-1, 1, 1)


def trimmed(block: Tensor, cut: Tensor, factors: Tensor) -> Tensor:
    """Weighted entries [N, ...] with those under their update's threshold set to 0. Products, for `where` is slow."""
    return (factors * block).mul_(block.abs() >= cut)


def elected_mean(signed: Tensor, factors: Tensor) -> Tensor:
    """Of weighted entries [N, ...]: elect the sign of their sum, average what carries it over its |weights| [N, 1, 1].

    Zero entries do not count. Where the sum is exactly 0 no sign is elected and the mean is 0.
    """
    import torch

    elected = torch.sign(signed.sum(dim=0))
    agreeing = (signed * elected).clamp_(min=0)
    weight = (factors.abs() * (agreeing > 0)).sum(dim=0)
    return agreeing.sum(dim=0).mul_(elected).div_(weight.clamp_(min=TINY))
