import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from grandrounds.domain.adapters import LoraFactors, LoraUpdate
from grandrounds.domain.conflicts import compare, compare_all, layer_of
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


def test_updates_of_different_modules_are_refused() -> None:
    with pytest.raises(UserError, match="lm_head"):
        compare("a", update(1), "b", LoraUpdate({"lm_head": update(1)[MODULE]}))
