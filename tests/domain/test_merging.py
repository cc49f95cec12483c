import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from grandrounds.domain.adapters import LoraFactors, LoraUpdate
from grandrounds.domain.merging import METHODS, linear, merge, ties
from grandrounds.errors import UserError
from grandrounds.params import Linear, Ties

few = settings(max_examples=30, deadline=None)
FULL = 6  # the rank at which nothing is cut


def update(seed: int, scale: float = 2.0) -> LoraUpdate:
    generator = torch.Generator().manual_seed(seed)
    return LoraUpdate(
        {
            f"layers.{layer}.q_proj": LoraFactors(
                torch.randn(2, 6, generator=generator), torch.randn(8, 2, generator=generator), scale
            )
            for layer in (0, 1)
        }
    )


def plain_ties(stack: list[list[float]], weights: list[float], density: float, scale: float) -> list[float]:
    """TIES entry by entry, in plain Python."""
    size = len(stack[0])
    kept = max(1, round(density * size))
    trimmed = []
    for row in stack:
        threshold = sorted((abs(x) for x in row), reverse=True)[kept - 1]
        trimmed.append([x if abs(x) >= threshold else 0.0 for x in row])
    out = []
    for column in zip(*trimmed, strict=True):
        signed = [w * x for w, x in zip(weights, column, strict=True)]
        total = sum(signed)
        agree = [i for i, x in enumerate(signed) if x * total > 0]
        weight = sum(abs(weights[i]) for i in agree)
        out.append(scale * sum(signed[i] for i in agree) / weight if agree else 0.0)
    return out


@few
@given(st.integers(0, 2**31), st.integers(1, 5), st.sampled_from([0.01, 0.2, 0.5, 1.0]), st.floats(0.1, 2))
def test_ties_is_the_plain_reference(seed: int, count: int, density: float, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    stack = torch.randn(count, 5, 4, generator=generator, dtype=torch.float64)
    weights = torch.randn(count, generator=generator, dtype=torch.float64)
    got = ties(stack, weights, Ties(density=density, scale=scale))
    wanted = plain_ties(stack.flatten(1).tolist(), weights.tolist(), density, scale)
    torch.testing.assert_close(got.flatten(), torch.tensor(wanted, dtype=torch.float64))


@few
@given(st.integers(0, 2**31))
def test_linear_is_the_weighted_sum_of_exact_updates(seed: int) -> None:
    one, two = update(seed, 0.7), update(seed + 1, 3.0)
    merged = merge({"one": one, "two": two}, {"two": -0.5}, Linear(type="linear", scale=1.5), FULL)
    for module, row in zip(one, merged.report, strict=True):
        wanted = 1.5 * (one[module].dense().double() - 0.5 * two[module].dense().double())
        torch.testing.assert_close(merged.update[module].dense().double(), wanted, rtol=1e-5, atol=1e-5)
        assert row.module == module and row.rank == FULL and row.truncation_error < 1e-6
        assert row.norm == pytest.approx(float(wanted.norm()), rel=1e-5)


@few
@given(st.integers(0, 2**31), st.randoms())
def test_order_of_updates_changes_no_bit(seed: int, shuffler: random.Random) -> None:
    updates = {name: update(seed + number) for number, name in enumerate("abcde")}
    names = list(updates)
    shuffler.shuffle(names)
    one = merge(updates, {"b": 0.3, "d": 2.0}, Ties(), 3)
    two = merge({name: updates[name] for name in names}, {"d": 2.0, "b": 0.3}, Ties(), 3)
    assert one.report == two.report
    for module in one.update:
        assert torch.equal(one.update[module].a, two.update[module].a)
        assert torch.equal(one.update[module].b, two.update[module].b)


def test_degenerate_cases_of_ties() -> None:
    stack = torch.randn(1, 4, 4, generator=torch.Generator().manual_seed(0))
    same, one = stack.repeat(3, 1, 1), Ties(density=1.0, scale=0.5)
    torch.testing.assert_close(ties(same, torch.ones(3), one), 0.5 * stack[0])
    assert torch.equal(ties(-same, torch.ones(3), one), -ties(same, torch.ones(3), one))
    assert not ties(torch.cat([stack, -stack]), torch.ones(2), one).any()  # no sign is elected
    assert not ties(same, torch.zeros(3), one).any()
    other = torch.cat([stack, torch.randn(1, 4, 4)])
    torch.testing.assert_close(ties(other, torch.tensor([1.0, 0.0]), one), 0.5 * stack[0])


def test_ties_resolves_a_conflict_that_the_mean_washes_out() -> None:
    stack = torch.tensor([[[4.0, 1.0]], [[-1.0, 1.0]], [[0.0, 0.1]]])
    # the elected sign of the first entry is +: the -1 does not pull it down; the trimmed 0.1 does not dilute the second
    merged = ties(stack, torch.ones(3), Ties(density=1.0))
    torch.testing.assert_close(merged, torch.tensor([[4.0, 2.1 / 3]]))
    assert float(linear(stack, torch.ones(3), Linear(type="linear"))[0, 0]) == 3.0


def test_low_rank_reports_what_it_cost() -> None:
    updates = {"a": update(1), "b": update(2)}
    errors = [merge(updates, {}, Ties(), rank).report[0].truncation_error for rank in (1, 2, 4, 6)]
    assert errors == sorted(errors, reverse=True) and errors[0] > 0.1 and errors[-1] < 1e-6


def test_bad_weights_and_modules_are_named() -> None:
    updates = {"cardiology": update(1), "pediatrics": update(2)}
    with pytest.raises(UserError, match="did you mean 'cardiology'"):
        merge(updates, {"cardiologi": 1.0}, Ties(), 2)
    with pytest.raises(UserError, match="weight of 'pediatrics' is nan"):
        merge(updates, {"pediatrics": float("nan")}, Ties(), 2)
    part = LoraUpdate({"layers.0.q_proj": update(3)["layers.0.q_proj"]})
    with pytest.raises(UserError, match=r"module layers\.1\.q_proj: 'cardiology' updates it, 'part' does not"):
        merge({**updates, "part": part}, {}, Ties(), 2)


def test_every_method_has_its_paper() -> None:
    assert set(METHODS) == {"ties", "linear"} and all("arXiv" in method.paper for method in METHODS.values())
