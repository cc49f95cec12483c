"""Advantages of rollouts: group-relative (GRPO, arXiv 2402.03300) and guideline-based (GBA).

The formula of MMedExpert-R1's guideline-based advantages (arXiv 2601.10949) was not in reach; this one is ours. With
reward r_i of rollout i sampled under guideline g(i), group mean m, guideline mean m_g inside the group, and s the
unbiased standard deviation of the group:

    A_i = (within * (r_i - m_g(i)) + between * (m_g(i) - m)) / (s + 1e-4)

It is computed as (r - m) + (within - 1)(r - m_g) + (between - 1)(m_g - m), so that (1, 1) is TRL's GRPO (its defaults
`scale_rewards="group"`, `multi_objective_aggregation="sum_then_normalize"`) to the last bit.

A missing reward is NaN and is left out of every mean; no advantage is ever NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeGuard

from grandrounds.params import Gba, Gdpo, Grouped

if TYPE_CHECKING:
    from torch import Tensor

EPSILON = 1e-4  # TRL's, added to the standard deviation


def replaces(params: Gba | Grouped | Gdpo) -> TypeGuard[Gba | Grouped]:
    """Whether the advantages are computed here; GDPO and other scales than a group's deviation are left to TRL."""
    return not isinstance(params, Gdpo) and (isinstance(params, Gba) or params.scale == "group")


def advantages(
    rewards: Tensor,
    weights: Sequence[float] | Tensor,
    group: int | Tensor,
    guidelines: Tensor | None,
    params: Gba | Grouped,
) -> Tensor:
    """Advantages [B] of rewards [B, R]: the weighted sum of those that apply, then :func:`guideline_advantages`.

    `weights` has R entries. NaN marks a reward that does not apply to a rollout; a rollout without any reward gets
    advantage 0 and takes no part in its group's mean and deviation. `Grouped` is GRPO: within = between = 1.
    """
    if not replaces(params):
        raise ValueError(f"{params} is computed by TRL")
    return guideline_advantages(total_rewards(rewards, weights), group, guidelines, _guided(params))


def _guided(params: Gba | Grouped) -> Gba:
    return params if isinstance(params, Gba) else Gba(type="gba", within=1.0, between=1.0, std_floor=params.std_floor)


def total_rewards(rewards: Tensor, weights: Sequence[float] | Tensor) -> Tensor:
    """The weighted sum [B] of rewards [B, R]; NaN entries are left out, a row of NaN only stays NaN. As in TRL."""
    import torch

    factors = torch.as_tensor(weights, dtype=torch.float32, device=rewards.device)
    if rewards.ndim != 2 or factors.shape != rewards.shape[1:]:
        raise ValueError(f"rewards [B, R] and weights [R] are wanted, not {[*rewards.shape]} and {[*factors.shape]}")
    total = (rewards * factors.unsqueeze(0)).nansum(dim=1)
    total[torch.isnan(rewards).all(dim=1)] = torch.nan
    return total


def guideline_advantages(rewards: Tensor, groups: int | Tensor, guidelines: Tensor | None, params: Gba) -> Tensor:
    """Guideline-based advantages [B] of one reward a rollout [B] (module docstring has the formula).

    Args:
        rewards: [B]; NaN where a rollout has none.
        groups: rollouts a question when they stand one group after another, or the group id of each rollout [B].
        guidelines: id of the guideline under which each rollout was sampled [B]; None: all under one.
        params: `within`, `between` and `std_floor`, a lower bound on the group's standard deviation (0: none).
            Continuous rewards, such as length, give an all-correct group a tiny deviation; without a floor it is
            blown up to 1.

    Degenerate cases: one rollout per guideline makes the within term exactly 0, one guideline in a group the between
    term 0; equal rewards give 0 (both up to the rounding of a mean; exactly, for rewards of 0 and 1); a group with
    fewer than two rewards gives 0.
    """
    import torch

    index = _group_index(groups, rewards)
    table = _take(rewards, index)  # [groups, size], NaN where missing
    centred = _centred(table, guidelines, index, params)
    deviation = _nanstd(table)
    if params.std_floor > 0:
        deviation = deviation.clamp(min=params.std_floor)
    scaled = torch.nan_to_num(centred / (deviation + EPSILON), nan=0.0)
    out = torch.zeros_like(rewards)
    out[index[index >= 0]] = scaled[index >= 0]
    return out


def _centred(table: Tensor, guidelines: Tensor | None, index: Tensor, params: Gba) -> Tensor:
    """The numerator of the formula, [groups, size]; it is linear in the rewards."""
    import torch

    mean = torch.nanmean(table, dim=1, keepdim=True)
    centred = table - mean
    if (params.within, params.between) != (1.0, 1.0):
        if guidelines is None:
            guidelines = torch.zeros(int(index.max()) + 1, dtype=torch.long, device=table.device)
        guideline_mean = _guideline_mean(table, _take(guidelines.to(torch.float64), index))
        centred = centred + (params.within - 1) * (table - guideline_mean)
        centred = centred + (params.between - 1) * (guideline_mean - mean)
    return centred


def advantage_shares(
    rewards: Tensor,
    weights: Sequence[float] | Tensor,
    group: int | Tensor,
    guidelines: Tensor | None,
    params: Gba | Grouped | Gdpo,
) -> Tensor:
    """How much of the advantage each reward carries, [R] float64, summing to 1; all 0 when no group has any variance.

    The advantage is a sum over rewards: A = sum_k a_k, with a_k the weighted reward k, centred in its group and
    divided by what A is divided by. The share of k is cov(a_k, A) / var(A) over the batch. It is negative for a reward
    that pulls against the others. Taken after the division, because there an all-correct group in which only the
    length differs weighs as much as any other: that is what the share is to show.
    """
    import torch

    index = _group_index(group, rewards[:, 0])
    factors = torch.as_tensor(weights, dtype=torch.float64, device=rewards.device)
    scorable = ~torch.isnan(rewards).all(dim=1, keepdim=True)
    # A reward that does not apply adds nothing to the total, here as there.
    parts = torch.where(scorable, torch.nan_to_num(rewards.double(), nan=0.0) * factors, torch.nan)
    if isinstance(params, Gdpo):
        tables = [_take(part, index) for part in rewards.double().unbind(dim=1)]
        means = [torch.nanmean(table, dim=1, keepdim=True) for table in tables]
        scaled = [(table - mean) / (_nanstd(table) + EPSILON) for table, mean in zip(tables, means, strict=True)]
        carried = torch.stack(scaled) * factors[:, None, None]
    else:
        table = torch.stack([_take(part, index) for part in parts.unbind(dim=1)])  # [R, groups, size]
        carried = torch.stack([_centred(each, guidelines, index, _guided(params)) for each in table])
        if replaces(params):
            carried = carried / (_nanstd(table.sum(dim=0)).clamp(min=params.std_floor) + EPSILON)
    carried = torch.nan_to_num(carried, nan=0.0)
    total = carried.sum(dim=0)
    variance = (total * total).sum()
    if variance <= 1e-12:  # equal rewards, up to rounding
        return torch.zeros(rewards.shape[1], dtype=torch.float64, device=rewards.device)
    return (carried * total).sum(dim=(1, 2)) / variance


def informative(rewards: Tensor, weights: Sequence[float] | Tensor, group: int) -> Tensor:
    """Which groups [B / group] have total rewards that differ: the others teach nothing (DAPO, 2503.14476)."""
    return (_nanstd(total_rewards(rewards, weights).view(-1, group)) > 1e-6)[:, 0]  # False for NaN


def _group_index(groups: int | Tensor, rewards: Tensor) -> Tensor:
    """Row numbers of each group's rollouts, [groups, largest size], -1 where a group is smaller."""
    import torch

    count = len(rewards)
    if isinstance(groups, int):
        if groups < 1 or count % groups:
            raise ValueError(f"{count} rollouts do not divide into groups of {groups}")
        return torch.arange(count, device=rewards.device).view(-1, groups)
    if groups.shape != rewards.shape:
        raise ValueError(f"one group id a rollout is wanted: {len(groups)} ids for {count} rollouts")
    _, group_of, sizes = torch.unique(groups, return_inverse=True, return_counts=True)
    order = torch.argsort(group_of, stable=True)
    index = torch.full((len(sizes), int(sizes.max())), -1, dtype=torch.long, device=rewards.device)
    index[torch.arange(index.shape[1], device=rewards.device) < sizes.unsqueeze(1)] = order
    return index


def _take(values: Tensor, index: Tensor) -> Tensor:
    """`values` [B] laid out as `index` [groups, size]; NaN where a group is smaller."""
    return values[index.clamp(min=0)].masked_fill(index < 0, float("nan"))


def _guideline_mean(table: Tensor, guidelines: Tensor) -> Tensor:
    """For each rollout [groups, size], the mean reward of its guideline in its group; NaN where that has no reward."""
    import torch

    same = guidelines.unsqueeze(2) == guidelines.unsqueeze(1)  # [groups, size, size]
    scored = ~torch.isnan(table)
    members = (same & scored.unsqueeze(1)).to(table.dtype)
    return (members * torch.nan_to_num(table, nan=0.0).unsqueeze(1)).sum(dim=2) / members.sum(dim=2)


def _nanstd(table: Tensor) -> Tensor:
    """Unbiased standard deviation of each row, [groups, 1], NaN left out: TRL's nanstd, in its order of operations."""
    import torch

    mean = torch.nanmean(table, dim=1, keepdim=True)
    variance = torch.nanmean((table - mean) ** 2, dim=1, keepdim=True)
    count = torch.sum(~torch.isnan(table), dim=1, keepdim=True)
    correction = count / (count - 1)
    correction = torch.where(count > 1, correction, torch.full_like(correction, float("nan")))
    return torch.sqrt(variance * correction)
