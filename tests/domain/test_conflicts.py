import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from grandrounds.domain.adapters import LoraFactors, LoraUpdate, layer_of
from grandrounds.domain.conflicts import compare, compare_all, hardest
from grandrounds.errors import UserError

few = settings(max_examples=30, deadline=None)
MODULE = "model.language_model.layers.3.self_attn.q_proj"


def update(seed: int, factor: float = 1.0) -> LoraUpdate:
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, 5, generator=generator), torch.randn(6, 2, generator=generator)
    return LoraUpdate({MODULE: LoraFactors(a, b * factor, 2.0)})


@few
@given(st.integers(0, 2**31))
def test_measures_against_plain_sums(seed: int) -> None:
    one, two = update(seed), update(seed + 1)
    a, b = (u[MODULE].dense().double().flatten().tolist() for u in (one, two))
    weights = [math.sqrt(abs(x * y)) for x, y in zip(a, b, strict=True)]
    against = sum(w for w, x, y in zip(weights, a, b, strict=True) if x * y < 0)
    [row] = compare("one", one, "two", two)
    assert row.sign_disagreement == pytest.approx(against / sum(weights))
    assert row.cosine == pytest.approx(sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b))
    assert (row.first_norm, row.second_norm) == pytest.approx((math.hypot(*a), math.hypot(*b)))
    assert row.layer == 3 and not row.null


def test_equal_opposite_and_zero_updates() -> None:
    [same] = compare("a", update(1), "b", update(1, 3.0))
    [opposite] = compare("a", update(1), "b", update(1, -1.0))
    [zero] = compare("a", update(1), "b", update(1, 0.0))
    assert (same.sign_disagreement, same.cosine) == pytest.approx((0.0, 1.0))
    assert (opposite.sign_disagreement, opposite.cosine) == pytest.approx((1.0, -1.0))
    assert (zero.sign_disagreement, zero.cosine, zero.second_norm) == (0.0, 0.0, 0.0)


def test_every_pair_once_and_the_twin_only_with_its_own() -> None:
    updates = {name: update(seed) for seed, name in enumerate(("c", "a", "b"))}
    rows = compare_all(updates, ("b", "b_twin", update(9)))
    assert [(row.first, row.second, row.null) for row in rows] == [
        ("a", "b", False), ("a", "c", False), ("b", "c", False), ("b", "b_twin", True),
    ]  # fmt: skip
    assert len(compare_all(updates)) == 3


@pytest.mark.parametrize(
    ("module", "layer"),
    [
        (MODULE, 3),
        ("model.visual.blocks.11.attn.qkv", 11),
        ("transformer.h.0.attn.c_attn", 0),
        ("lm_head", -1),
        ("model.experts.5.up_proj", -1),
    ],
)
def test_layer_of_a_module(module: str, layer: int) -> None:
    assert layer_of(module) == layer


def test_only_what_both_update_is_compared() -> None:
    other = LoraUpdate({"lm_head": update(1)[MODULE]})
    assert compare("a", update(1), "b", other) == []
    with pytest.raises(UserError, match=r"module model\.language_model"):
        compare("a", update(1), "b", LoraUpdate({MODULE: LoraFactors(torch.ones(1, 5), torch.ones(7, 1))}))


@few
@given(st.integers(0, 2**31))
def test_interference_is_what_cancels_in_the_sum(seed: int) -> None:
    one, two = update(seed), update(seed + 1, 0.5)
    a, b = one[MODULE].dense().double(), two[MODULE].dense().double()
    lost = (a.abs() + b.abs() - (a + b).abs()) / 2  # of each side, entry by entry
    [row] = compare("one", one, "two", two)
    assert row.interference == pytest.approx(float(lost.norm() / (a.norm() * b.norm()).sqrt()), rel=1e-6)
    [there] = compare("two", two, "one", one)
    assert (there.interference, there.overlap_in) == pytest.approx((row.interference, row.overlap_in))


def test_angles_between_spaces_that_are_known() -> None:
    axis = torch.eye(4)
    turned = torch.stack([axis[0] * 0.5**0.5 + axis[2] * 0.5**0.5, axis[3]])  # 45 and 90 degrees from axes 0 and 1
    one = LoraUpdate({MODULE: LoraFactors(axis[:2] * 3, axis[:, :2])})
    two = LoraUpdate({MODULE: LoraFactors(turned, axis[:, 2:])})
    [row] = compare("one", one, "two", two)
    assert (row.angle_in, row.overlap_in) == pytest.approx((45.0, 0.25), abs=1e-4)
    assert (row.angle_out, row.overlap_out) == pytest.approx((90.0, 0.0), abs=1e-4)


def test_measures_do_not_depend_on_how_a_lora_is_written() -> None:
    """Another basis of the same update: only the update counts."""
    plain = update(4)[MODULE]
    turn = torch.tensor([[2.0, 1.0], [0.0, 0.5]])
    same = LoraUpdate({MODULE: LoraFactors(turn @ plain.a, plain.b @ torch.linalg.inv(turn), 2.0)})
    [first], [second] = compare("a", update(4), "c", update(9)), compare("a", same, "c", update(9))
    for measure in ("cosine", "interference", "overlap_in", "overlap_out", "angle_in", "sign_disagreement"):
        assert getattr(first, measure) == pytest.approx(getattr(second, measure), abs=1e-4)


def test_the_sentence_names_pair_layer_and_module() -> None:
    modules = [f"layers.{layer}.{kind}" for layer in (0, 1) for kind in ("q", "v")]
    calm = {module: update(1)[MODULE] for module in modules}
    against = calm | {"layers.1.v": update(1, -1.0)[MODULE]}
    updates = {"a": LoraUpdate(calm), "b": LoraUpdate(calm), "c": LoraUpdate(against)}
    told = hardest(compare_all(updates, ("a", "twin", LoraUpdate(calm))))
    assert told.startswith("a and c fight most: 25.0 %") or told.startswith("b and c fight most: 25.0 %")
    assert "layer 1 (50.0 %) and there in layers.1.v (100.0 %)" in told
    assert told.endswith("two seeds of one specialty: 0.0 %")
    assert hardest([]) == ""
