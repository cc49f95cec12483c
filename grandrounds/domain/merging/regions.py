"""Merges that ask of every entry who uses it: RAM, and ours, conflict-aware."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grandrounds.domain.merging.entries import TINY, by_rows, column, elected_mean, thresholds, trimmed

if TYPE_CHECKING:
    from torch import Tensor


def ram(updates: Tensor, weights: Tensor, densities: Tensor, rescale: float, limit: float) -> Tensor:
    """RAM+ (2601.13572): [N, out, in] -> [out, in]. What one update alone uses is kept, what several use is averaged.

    An update uses an entry that is among its `density` share of largest ones: the paper's |dW| > 1e-5 finds what
    reinforcement left untouched in full weights, and every entry of a low-rank update is touched. Averaging dilutes an
    update by what it shares, so its own entries are multiplied by 1 + rescale * min(shared / own, limit); rescale 0 is
    plain RAM.
    """
    import torch

    cut, factors = column(thresholds(updates, densities)), column(weights.to(updates.dtype))
    shared, own = torch.zeros(len(updates)), torch.zeros(len(updates))

    def count(block: Tensor) -> Tensor:
        uses = trimmed(block, cut, factors) != 0
        several = uses.sum(dim=0) > 1
        shared.add_((uses & several).sum(dim=(1, 2)))
        own.add_((uses & ~several).sum(dim=(1, 2)))
        return block[0]

    by_rows(count, updates)
    boost = column(1 + rescale * (shared / own.clamp(min=1)).clamp(max=limit)).to(updates.dtype)

    def combine(block: Tensor) -> Tensor:
        signed = trimmed(block, cut, factors)
        uses = signed != 0
        weight = (factors.abs() * uses).sum(dim=0).clamp_(min=TINY)
        return torch.where(uses.sum(dim=0) == 1, (boost * signed).sum(dim=0), signed.sum(dim=0) / weight)

    return by_rows(combine, updates)


def conflict_aware(
    updates: Tensor, weights: Tensor, densities: Tensor, agreement: float, caution: float
) -> tuple[Tensor, float]:
    """Ours: [N, out, in] -> ([out, in], measured conflict). Three kinds of entries, three rules (docs/merging.md).

    Own (one update uses it): kept whole, for nobody contradicts it.
    Agreed (several use it, one sign): their mean, times max(1, sum of their |w|)^agreement. 0 is the mean, as in TIES;
    1 the sum, as in task arithmetic. Independent findings of one fact deserve more than their mean, repeated ones not
    their sum.
    Contested (both signs): TIES' elected mean, times margin^(caution * c). The margin |sum w dW| / sum |w dW| says how
    clear the election was, in [0, 1]; c is the share of magnitude of this module that lies on contested entries. Where
    a module's updates hardly fight, this is TIES; where they do, a narrow vote leaves the base as it was.
    """
    import torch

    cut, factors = column(thresholds(updates, densities)), column(weights.to(updates.dtype))
    weighed = torch.zeros(2, dtype=torch.float64)  # magnitude on contested entries, and on all

    def contested(signed: Tensor) -> Tensor:
        return (signed > 0).any(dim=0) & (signed < 0).any(dim=0)

    def measure(block: Tensor) -> Tensor:
        signed = trimmed(block, cut, factors)
        total = signed.abs().sum(dim=0)
        weighed.add_(torch.stack([total.mul(contested(signed)).double().sum(), total.double().sum()]))
        return total

    by_rows(measure, updates)
    conflict = float(weighed[0] / weighed[1]) if weighed[1] > 0 else 0.0

    def combine(block: Tensor) -> Tensor:
        signed = trimmed(block, cut, factors)
        mean = elected_mean(signed, factors)
        margin = signed.sum(dim=0).abs() / signed.abs().sum(dim=0).clamp_(min=TINY)
        backing = (factors.abs() * (signed != 0)).sum(dim=0).clamp_(min=1)
        return mean * torch.where(contested(signed), margin ** (caution * conflict), backing**agreement)

    return by_rows(combine, updates), conflict
