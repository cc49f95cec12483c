import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from grandrounds.domain.advantages import (
    advantage_shares,
    advantages,
    guideline_advantages,
    informative,
    total_rewards,
)
from grandrounds.params import Gba, Gdpo, Grouped

few = settings(max_examples=40, deadline=None)

GROUP, KINDS = 16, 4
NAN = float("nan")


def gba(within: float = 1.0, between: float = 1.0, std_floor: float = 0.0) -> Gba:
    return Gba(type="gba", within=within, between=between, std_floor=std_floor)


def trl_advantages(per_function: torch.Tensor, weights: torch.Tensor, group: int) -> torch.Tensor:
    """GRPOTrainer._generate_and_score_completions of TRL 1.16 under its defaults, with TRL's own nanstd."""
    from trl.trainer.utils import nanstd

    unscorable = torch.isnan(per_function).all(dim=1)
    rewards = (per_function * weights.unsqueeze(0)).nansum(dim=1)
    rewards[unscorable] = torch.nan
    mean = torch.nanmean(rewards.view(-1, group), dim=1).repeat_interleave(group, dim=0)
    std = nanstd(rewards.view(-1, group), dim=1).repeat_interleave(group, dim=0)
    return torch.nan_to_num((rewards - mean) / (std + 1e-4), nan=0.0)


def dealt(questions: int, group: int = GROUP, kinds: int = KINDS) -> torch.Tensor:
    """Guideline ids: group / kinds rollouts under each, for every question."""
    return torch.arange(kinds).repeat_interleave(group // kinds).repeat(questions)


@st.composite
def batches(draw: st.DrawFn) -> torch.Tensor:
    """Rewards [B, R] of 1 to 4 groups: continuous or 0/1, some missing, a few rows wholly missing."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    shape = (GROUP * draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    rewards = torch.randn(shape, generator=generator) * draw(st.sampled_from([1e-3, 1.0, 50.0]))
    if draw(st.booleans()):
        rewards = (rewards > 0).float()
    rewards[torch.rand(shape, generator=generator) < draw(st.sampled_from([0.0, 0.2, 0.9]))] = NAN
    return rewards


@few
@given(batches())
def test_one_one_is_trl_to_the_last_bit(rewards: torch.Tensor) -> None:
    weights = [1.0, 0.3, 2.0, 0.7][: rewards.shape[1]]
    guidelines = dealt(len(rewards) // GROUP)
    wanted = trl_advantages(rewards, torch.tensor(weights), GROUP)
    assert torch.equal(advantages(rewards, weights, GROUP, guidelines, gba()), wanted)
    assert torch.equal(advantages(rewards, weights, GROUP, None, Grouped()), wanted)


@few
@given(batches(), st.floats(0, 2), st.floats(0, 2), st.sampled_from([0.0, 0.1]))
def test_formula_against_plain_float64(rewards: torch.Tensor, within: float, between: float, floor: float) -> None:
    total = total_rewards(rewards, [1.0] * rewards.shape[1])
    guidelines = dealt(len(total) // GROUP)
    got = guideline_advantages(total, GROUP, guidelines, gba(within, between, floor))
    assert torch.isfinite(got).all()
    for start in range(0, len(total), GROUP):
        rows = range(start, start + GROUP)
        scored = [i for i in rows if not total[i].isnan()]
        if len(scored) < 2:
            assert not got[start : start + GROUP].any()
            continue
        r = total.double()
        mean, std = r[scored].mean(), max(r[scored].std(), torch.tensor(floor))
        for i in rows:
            own = r[[j for j in scored if guidelines[j] == guidelines[i]]].mean()
            wanted = (
                (within * (r[i] - own) + between * (own - mean)) / (std + 1e-4) if i in scored else torch.tensor(0.0)
            )
            assert float(got[i]) == pytest.approx(float(wanted), abs=5e-3)


@few
@given(batches(), st.floats(0, 2), st.floats(0, 2))
def test_shifting_every_reward_changes_nothing(rewards: torch.Tensor, within: float, between: float) -> None:
    total = total_rewards(rewards, [1.0] * rewards.shape[1]).double()
    guidelines = dealt(len(total) // GROUP)
    one = guideline_advantages(total, GROUP, guidelines, gba(within, between))
    two = guideline_advantages(total + 3.0, GROUP, guidelines, gba(within, between))
    torch.testing.assert_close(one, two, rtol=0, atol=1e-8)


@pytest.mark.parametrize("value", [0.0, 1.0, 0.7])
@pytest.mark.parametrize("weights", [(1, 1), (1, 0), (0, 1), (2, 0.5)])
def test_equal_rewards_give_nothing(value: float, weights: tuple[float, float]) -> None:
    got = guideline_advantages(torch.full((GROUP,), value), GROUP, dealt(1), gba(*weights))
    # 0.7 has no exact mean in float32: rounding, divided by 1e-4
    torch.testing.assert_close(got, torch.zeros(GROUP), rtol=0, atol=0 if value in (0, 1) else 5e-3)


def test_one_rollout_per_guideline_leaves_no_within_term() -> None:
    rewards = torch.rand(8)
    assert not guideline_advantages(rewards, 4, dealt(2, group=4), gba(1, 0)).any()
    assert guideline_advantages(rewards, 4, dealt(2, group=4), gba(0, 1)).any()


def test_within_only_judges_each_guideline_against_itself() -> None:
    rewards = torch.tensor([1.0, 1.0, 0.0, 1.0])  # guideline 0 always right, guideline 1 half
    got = guideline_advantages(rewards, 4, dealt(1, group=4, kinds=2), gba(1, 0))
    torch.testing.assert_close(got, torch.tensor([0.0, 0.0, -0.5, 0.5]) / (0.5 + 1e-4))


def test_group_ids_in_any_order_and_of_any_size() -> None:
    sizes, generator = [3, 5, 2], torch.Generator().manual_seed(0)
    groups = torch.tensor([7, 2, 9]).repeat_interleave(torch.tensor(sizes))
    rewards = torch.rand(10, generator=generator)
    guidelines = torch.randint(0, 2, (10,), generator=generator)
    shuffle = torch.randperm(10, generator=generator)
    got = guideline_advantages(rewards[shuffle], groups[shuffle], guidelines[shuffle], gba(1, 0.5))
    start = 0
    for size in sizes:
        alone = guideline_advantages(rewards[start : start + size], size, guidelines[start : start + size], gba(1, 0.5))
        torch.testing.assert_close(got[torch.argsort(shuffle)][start : start + size], alone)
        start += size


@few
@given(batches(), st.floats(0, 2), st.floats(0, 2))
def test_a_group_sums_to_zero(rewards: torch.Tensor, within: float, between: float) -> None:
    """Means are over what is there, so what is missing (advantage 0) does not disturb the sum."""
    total = total_rewards(rewards, [1.0] * rewards.shape[1]).double()
    got = guideline_advantages(total, GROUP, dealt(len(total) // GROUP), gba(within, between))
    assert got.view(-1, GROUP).sum(dim=1).abs().max() < 1e-6


def test_only_groups_whose_totals_differ_are_informative() -> None:
    rewards = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [NAN, NAN], [1.0, NAN]])
    assert informative(rewards, [1.0, 1.0], 2).tolist() == [False, True, False]
    assert informative(rewards, [1.0, 0.5], 2).tolist() == [True, True, False]


@few
@given(batches())
def test_gdpo_shares_are_those_of_trls_own_sum(rewards: torch.Tensor) -> None:
    """The shares' parts add up to TRL's normalize_then_sum, before its division over the batch."""
    from trl.trainer.utils import nanstd

    weights = torch.tensor([1.0, 0.3, 2.0, 0.7][: rewards.shape[1]])
    grouped = rewards.view(-1, GROUP, rewards.shape[1])
    scaled = (grouped - grouped.nanmean(dim=1, keepdim=True)) / (nanstd(grouped, dim=1, keepdim=True) + 1e-4)
    parts = torch.nan_to_num(scaled.view(-1, rewards.shape[1]) * weights, nan=0.0).double()
    total = parts.sum(dim=1)
    wanted = (parts * total[:, None]).sum(dim=0) / (total * total).sum().clamp(min=1e-12)
    got = advantage_shares(rewards, weights, GROUP, None, Gdpo(type="gdpo"))
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-3)


def test_floor_keeps_a_tiny_spread_tiny() -> None:
    rewards = 1 + torch.linspace(0, 1e-3, GROUP)
    assert guideline_advantages(rewards, GROUP, dealt(1), gba()).abs().max() > 1
    assert guideline_advantages(rewards, GROUP, dealt(1), gba(std_floor=0.1)).abs().max() < 0.01


def test_uneven_groups_are_refused() -> None:
    with pytest.raises(ValueError, match="do not divide"):
        guideline_advantages(torch.rand(10), 4, None, gba())


@few
@given(batches(), st.sampled_from([Grouped(), Grouped(scale="none"), Gdpo(type="gdpo"), gba(1, 0), gba(0.5, 2, 0.1)]))
def test_shares_sum_to_one_or_are_all_zero(rewards: torch.Tensor, params) -> None:
    guidelines = dealt(len(rewards) // GROUP)
    shares = advantage_shares(rewards, [1.0] * rewards.shape[1], GROUP, guidelines, params)
    assert torch.isfinite(shares).all()
    assert float(shares.sum()) == pytest.approx(1.0) or not shares.any()


def test_shares_show_the_length_reward_that_drives_all_correct_groups() -> None:
    correct = torch.tensor([1.0] * 8 + [1.0, 0.0] * 4)
    length = torch.tensor([0.01 * i for i in range(8)] + [0.0] * 8)
    shares = advantage_shares(torch.stack([correct, length], dim=1), [1.0, 1.0], 8, None, Grouped())
    torch.testing.assert_close(shares, torch.tensor([0.5, 0.5], dtype=torch.float64), rtol=0, atol=5e-3)
    floored = advantage_shares(torch.stack([correct, length], dim=1), [1.0, 1.0], 8, None, Grouped(std_floor=0.5))
    assert floored[1] < 0.01
    assert not advantage_shares(torch.full((16, 2), 0.7), [1.0, 0.3], 8, None, Grouped()).any()
