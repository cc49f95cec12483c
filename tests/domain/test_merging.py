"""Invariants of every method in the table, each for the methods that it holds for."""

import random
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from grandrounds.domain.adapters import LoraFactors, LoraUpdate, concatenate
from grandrounds.domain.merging.merge import merge, merge_exactly
from grandrounds.domain.merging.methods import METHODS
from grandrounds.errors import UserError
from grandrounds.params import Linear, MergeMethod, MergeRule, Ties
from grandrounds.params.merge import MethodName

few = settings(max_examples=15, deadline=None)
FULL = 6  # the rank at which nothing is cut
MODULES = [f"layers.{layer}.q_proj" for layer in (0, 1)]
TYPES = sorted(METHODS)
AVERAGES = ["conflict_aware", "dare_ties", "knots", "ram", "ties"]  # of equal updates they give that update
seeds = st.integers(0, 2**31)


def method(kind: str, **values: object) -> MergeMethod:
    return TypeAdapter(MergeMethod).validate_python({"type": kind, **values})


def whole(kind: str, **values: object) -> MergeMethod:
    """The method at density 1."""
    return method(kind, **values, **({} if kind == "linear" else {"density": 1.0}))


def update(seed: int, scale: float = 2.0, rank: int = 2, modules: list[str] = MODULES) -> LoraUpdate:
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    return LoraUpdate({module: LoraFactors(draw(rank, 6), draw(8, rank), scale) for module in modules})


def same(one: LoraUpdate, two: LoraUpdate, scale: float = 1.0) -> None:
    for module in one:
        wanted = scale * two[module].dense()
        error = (one[module].dense() - wanted).abs().max() / wanted.abs().max()
        assert float(error) < 1e-6, module


@pytest.mark.parametrize("kind", TYPES)
@few
@given(seeds, st.floats(0.1, 4))
def test_one_update_at_weight_and_density_one_comes_back(kind: str, seed: int, scale: float) -> None:
    one = update(seed, scale)
    same(merge({"a": one}, {}, whole(kind)).update, one)


@pytest.mark.parametrize("kind", TYPES)
@few
@given(seeds, st.randoms())
def test_order_of_updates_changes_no_bit(kind: str, seed: int, shuffler: random.Random) -> None:
    updates = {name: update(seed + number, rank=1 + number % 3) for number, name in enumerate("abcde")}
    names = list(updates)
    shuffler.shuffle(names)
    one = merge(updates, {"b": 0.3, "d": 2.0}, method(kind), 3)
    two = merge({name: updates[name] for name in names}, {"d": 2.0, "b": 0.3}, method(kind), 3)
    assert one.report == two.report
    for module in one.update:
        assert torch.equal(one.update[module].a, two.update[module].a)
        assert torch.equal(one.update[module].b, two.update[module].b)


@pytest.mark.parametrize("kind", TYPES)
@few
@given(seeds, st.floats(0.1, 0.9))
def test_a_duplicate_with_weights_summing_to_one_is_itself(kind: str, seed: int, share: float) -> None:
    one = update(seed)
    same(merge({"a": one, "b": one}, {"a": share, "b": 1 - share}, whole(kind)).update, one)


@pytest.mark.parametrize("kind", AVERAGES)
def test_equal_updates_at_weight_one_are_averaged(kind: str) -> None:
    more = {"agreement": 0.0} if kind == "conflict_aware" else {}
    same(merge(dict.fromkeys("abc", update(3)), {}, whole(kind, **more)).update, update(3))


@pytest.mark.parametrize("kind", ["ties", "conflict_aware", "ram", "dare_ties"])
@few
@given(seeds)
def test_density_one_with_agreeing_signs_is_the_mean(kind: str, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    positive = [torch.rand(9, generator=generator) + 0.1 for _ in range(6)]
    updates = {
        name: LoraUpdate({"m": LoraFactors(positive[2 * place].view(1, 9), positive[2 * place + 1].view(9, 1))})
        for place, name in enumerate("abc")
    }
    more = {"agreement": 0.0} if kind == "conflict_aware" else {}
    wanted = sum(each["m"].dense() for each in updates.values()) / 3
    torch.testing.assert_close(merge_exactly("m", updates, {}, whole(kind, **more)), wanted)


@few
@given(seeds, st.floats(-2, 2))
def test_linear_is_what_peft_calls_cat(seed: int, weight: float) -> None:
    one, two = update(seed, 0.7), update(seed + 1, 3.0, rank=3)
    scaled = LoraUpdate({name: LoraFactors(each.a, each.b, 1.5 * weight * each.scale) for name, each in two.items()})
    plain = LoraUpdate({name: LoraFactors(each.a, each.b, 1.5 * each.scale) for name, each in one.items()})
    merged = merge({"one": one, "two": two}, {"two": weight}, Linear(type="linear", scale=1.5))
    for module, row in zip(one, merged.report, strict=True):
        wanted = concatenate(plain, scaled)[module].dense()
        torch.testing.assert_close(merged.update[module].dense(), wanted, rtol=1e-5, atol=1e-5)
        assert row.rank <= 5 and row.truncation_error < 1e-6
        assert row.norm == pytest.approx(float(wanted.norm()), rel=1e-4)


@pytest.mark.parametrize("kind", TYPES)
def test_every_method_is_homogeneous(kind: str) -> None:
    """So a scale on every update of a module is that module's lambda."""
    updates, twice = {"a": update(1), "b": update(2)}, {"a": update(1, 4.0), "b": update(2, 4.0)}
    one = merge(updates, {}, method(kind), FULL).update
    same(merge(twice, {}, method(kind), FULL).update, one, 2.0)
    same(merge(updates, {}, method(kind, scale=2.0), FULL).update, one, 2.0)
    same(merge(updates, {}, method(kind), FULL, rules=[MergeRule(scale=2.0)]).update, one, 2.0)


def plain_ties(stack: list[list[float]], weights: list[float], densities: list[float]) -> list[float]:
    """TIES entry by entry, in plain Python."""
    trimmed = []
    for row, density in zip(stack, densities, strict=True):
        threshold = sorted((abs(x) for x in row), reverse=True)[max(1, round(density * len(row))) - 1]
        trimmed.append([x if abs(x) >= threshold else 0.0 for x in row])
    out = []
    for entries in zip(*trimmed, strict=True):
        signed = [w * x for w, x in zip(weights, entries, strict=True)]
        agree = [i for i, x in enumerate(signed) if x * sum(signed) > 0]
        weight = sum(abs(weights[i]) for i in agree)
        out.append(sum(signed[i] for i in agree) / weight if agree else 0.0)
    return out


@few
@given(seeds, st.integers(1, 5), st.lists(st.sampled_from([0.01, 0.2, 0.5, 1.0]), min_size=5, max_size=5))
def test_ties_is_the_plain_reference(seed: int, count: int, densities: list[float]) -> None:
    updates = {name: update(seed + place) for place, name in enumerate("abcde"[:count])}
    weights = dict(
        zip("abcde", torch.randn(count, generator=torch.Generator().manual_seed(seed)).tolist(), strict=False)
    )
    rules = [MergeRule(update=name, density=density) for name, density in zip(updates, densities, strict=False)]
    got = merge_exactly(MODULES[0], updates, weights, Ties(), rules)
    stack = [each[MODULES[0]].dense().flatten().tolist() for each in updates.values()]
    wanted = plain_ties(stack, list(weights.values()), densities[:count])
    torch.testing.assert_close(got.flatten(), torch.tensor(wanted), rtol=1e-4, atol=1e-5)


def rows(*entries: list[float]) -> dict[str, LoraUpdate]:
    """Updates of one row, given entry by entry."""
    return {
        name: LoraUpdate({"m": LoraFactors(torch.tensor([row]), torch.ones(1, 1))})
        for name, row in zip("abcd", entries, strict=False)
    }


def test_ties_resolves_a_conflict_that_the_mean_washes_out() -> None:
    # the elected sign of the first entry is +: the -1 does not pull it down; the zero does not dilute the second
    updates = rows([4.0, 1.0], [-1.0, 1.0], [0.0, 0.1])
    torch.testing.assert_close(merge_exactly("m", updates, {}, whole("ties")), torch.tensor([[4.0, 0.7]]))
    assert float(merge_exactly("m", updates, {}, method("linear"))[0, 0]) == 3.0
    assert not merge_exactly("m", rows([1.0, 2.0], [-1.0, -2.0]), {}, whole("ties")).any()  # no sign is elected


def test_ram_keeps_what_one_alone_uses_and_averages_the_rest() -> None:
    updates = rows([3.0, 1.0, 0.0], [0.0, 2.0, -4.0])
    plain = merge_exactly("m", updates, {}, whole("ram", rescale=0.0))
    torch.testing.assert_close(plain, torch.tensor([[3.0, 1.5, -4.0]]))
    boosted = merge_exactly("m", updates, {}, whole("ram", rescale=0.5, limit=0.4))  # shared / own is 1, over the limit
    torch.testing.assert_close(boosted, torch.tensor([[3.6, 1.5, -4.8]]))


def test_conflict_aware_treats_own_agreed_and_contested_entries_apart() -> None:
    updates = rows([3.0, 1.0, 4.0, 2.0], [0.0, 3.0, -2.0, -2.0])
    merged = merge_exactly("m", updates, {}, whole("conflict_aware", agreement=0.5, caution=2.0))[0].tolist()
    conflict = (6.0 + 4.0) / (3.0 + 4.0 + 6.0 + 4.0)
    margin = 2.0 / 6.0
    assert merged == pytest.approx([3.0, 2.0 * 2**0.5, 4.0 * margin ** (2.0 * conflict), 0.0], rel=1e-5)
    calm = merge_exactly("m", updates, {}, whole("conflict_aware", agreement=0.0, caution=0.0))
    torch.testing.assert_close(calm, merge_exactly("m", updates, {}, whole("ties")))


def test_dare_drops_by_name_and_module_and_keeps_the_expectation() -> None:
    one = LoraUpdate({name: LoraFactors(torch.ones(1, 60), torch.ones(50, 1)) for name in ("m", "n")})
    dare = method("dare_linear", density=0.25)
    drops = {(name, module): merge_exactly(module, {name: one}, {}, dare) for name in "ab" for module in "mn"}
    for dense in drops.values():
        assert set(dense.unique().tolist()) == {0.0, 4.0} and float(dense.mean()) == pytest.approx(1.0, abs=0.15)
    assert not torch.equal(drops["a", "m"], drops["b", "m"]) and not torch.equal(drops["a", "m"], drops["a", "n"])
    both = merge_exactly("m", {"b": one, "a": one}, {}, method("dare_linear", density=0.25))
    assert torch.equal(both, drops["a", "m"] + drops["b", "m"])
    other = merge_exactly("m", {"a": one}, {}, method("dare_linear", density=0.25, seed=1))
    assert not torch.equal(other, drops["a", "m"])


def test_knots_stays_in_the_span_of_its_updates() -> None:
    updates = {"a": update(1), "b": update(2, rank=1)}
    merged = merge(updates, {}, method("knots"))
    for module in MODULES:
        assert merged.update[module].rank <= 3
        together = torch.cat([each[module].b for each in updates.values()], dim=1)
        assert torch.linalg.matrix_rank(torch.cat([together, merged.update[module].b], dim=1), rtol=1e-5) == 3


def test_rules_reach_some_modules_of_some_updates_and_the_last_wins() -> None:
    updates = {"a": update(1), "b": update(2)}
    rules = [MergeRule(modules="*.1.*", update="b", weight=0.0), MergeRule(modules="layers.1*", update="a", scale=0.5)]
    merged = merge(updates, {}, method("linear"), rules=rules).update
    both, alone = MODULES
    wanted = updates["a"][both].dense() + updates["b"][both].dense()
    torch.testing.assert_close(merged[both].dense(), wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(merged[alone].dense(), updates["a"][alone].dense() / 2, rtol=1e-4, atol=1e-5)
    with pytest.raises(UserError, match="did you mean 'a'"):
        merge(updates, {}, method("linear"), rules=[MergeRule(update="aa", weight=1.0)])


@pytest.mark.parametrize("kind", TYPES)
def test_an_update_without_a_module_takes_no_part_in_it(kind: str) -> None:
    part = update(2, modules=MODULES[:1])
    merged = merge({"a": update(1), "b": part}, {}, whole(kind)).update
    torch.testing.assert_close(merged[MODULES[1]].dense(), update(1)[MODULES[1]].dense(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", TYPES)
def test_threads_and_workers_leave_no_trace(kind: str) -> None:
    generator = torch.Generator().manual_seed(5)

    def wide() -> LoraUpdate:
        a, b = torch.randn(8, 600, generator=generator), torch.randn(640, 8, generator=generator)
        return LoraUpdate({"layers.0.o": LoraFactors(a, b), "layers.1.o": LoraFactors(-a, b.flip(0))})

    updates = {"a": wide(), "b": wide()}
    before, found = torch.get_num_threads(), []
    try:
        for threads, workers in ((1, 1), (2, 2)):
            torch.set_num_threads(threads)
            found.append(merge(updates, {}, method(kind), 12, workers=workers))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert found[0].report == found[1].report
    for module, one in found[0].update.items():
        assert torch.equal(one.a, found[1].update[module].a) and torch.equal(one.b, found[1].update[module].b)


def test_bad_weights_and_updates_are_named() -> None:
    updates = {"cardiology": update(1), "pediatrics": update(2)}
    with pytest.raises(UserError, match="did you mean 'cardiology'"):
        merge(updates, {"cardiologi": 1.0}, Ties(), 2)
    with pytest.raises(UserError, match="weight of 'pediatrics' is nan"):
        merge(updates, {"pediatrics": float("nan")}, Ties(), 2)
    empty = LoraUpdate({name: LoraFactors(torch.ones(2, 6), torch.zeros(8, 2)) for name in MODULES})
    with pytest.raises(UserError, match="update 'empty' is zero in every module"):
        merge({**updates, "empty": empty}, {}, Ties(), 2)


def test_every_method_has_its_paper_and_its_settings() -> None:
    assert all("arXiv" in row.paper and row.degenerate for row in METHODS.values())
    assert {method(kind).type for kind in METHODS} == set(METHODS) == set(get_args(MethodName))
