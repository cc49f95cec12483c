import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from grandrounds.domain.adapters import LoraFactors, LoraUpdate, all_modules, concatenate, pad
from grandrounds.errors import UserError

few = settings(max_examples=40, deadline=None)


def factors(seed: int, out: int = 7, rank: int = 3, width: int = 5, scale: float = 2.0) -> LoraFactors:
    generator = torch.Generator().manual_seed(seed)
    return LoraFactors(
        torch.randn(rank, width, generator=generator), torch.randn(out, rank, generator=generator), scale
    )


def exact(update: LoraFactors) -> torch.Tensor:
    """scale * B A summed entry by entry in float64."""
    return update.scale * torch.einsum("or,ri->oi", update.b.double(), update.a.double())


@few
@given(st.integers(0, 2**31), st.integers(1, 6), st.floats(0.01, 8))
def test_dense_is_exact_to_one_float32_rounding(seed: int, rank: int, scale: float) -> None:
    update = factors(seed, rank=rank, scale=scale)
    assert update.dense().dtype == torch.float32
    torch.testing.assert_close(update.dense().double(), exact(update), rtol=1e-7, atol=1e-12)


@few
@given(st.integers(0, 2**31), st.integers(1, 4), st.integers(1, 4), st.floats(0.01, 8))
def test_concatenation_is_the_sum(seed: int, first: int, second: int, scale: float) -> None:
    one, two = factors(seed, rank=first, scale=scale), factors(seed + 1, rank=second, scale=1.0)
    total = concatenate(LoraUpdate({"m": one, "only": one}), LoraUpdate({"m": two}))
    assert total["m"].rank == first + second and total["m"].scale == 1.0
    torch.testing.assert_close(exact(total["m"]), exact(one) + exact(two), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(exact(total["only"]), exact(one), rtol=1e-5, atol=1e-5)


def test_padding_changes_no_update() -> None:
    padded = pad(factors(1), 5)
    assert padded.rank == 5 and padded.scale == 1.0
    torch.testing.assert_close(padded.dense(), factors(1).dense())


def test_updates_are_sorted_and_cannot_change() -> None:
    update = LoraUpdate({"b": factors(1), "a": factors(2, rank=4)})
    assert list(update) == ["a", "b"] and update.rank == 4
    with pytest.raises(TypeError):
        update["c"] = factors(3)  # type: ignore[index]


@pytest.mark.parametrize(
    ("broken", "named"),
    [
        (LoraFactors(torch.ones(2, 3), torch.ones(4, 5)), r"module m: A is \[2, 3\] and B is \[4, 5\]"),
        (LoraFactors(torch.ones(2, 3), torch.full((4, 2), float("inf"))), "module m: B holds NaN or infinity"),
        (LoraFactors(torch.ones(2, 3), torch.ones(4, 2), float("nan")), "module m: scale is nan"),
    ],
)
def test_broken_factors_are_named(broken: LoraFactors, named: str) -> None:
    with pytest.raises(UserError, match=named):
        LoraUpdate({"fine": factors(1), "m": broken})


def test_modules_of_any_update_and_shapes_that_differ() -> None:
    full = LoraUpdate({"m": factors(1), "n": factors(2)})
    assert all_modules({"part": LoraUpdate({"m": factors(1), "o": factors(3)}), "full": full}) == ["m", "n", "o"]
    with pytest.raises(UserError, match=r"module n: the update is \[7, 5\] in 'full' and \[7, 6\] in 'wide'"):
        all_modules({"full": full, "wide": LoraUpdate({"m": factors(1), "n": factors(2, width=6)})})
    with pytest.raises(UserError, match="module m"):
        concatenate(full, LoraUpdate({"m": factors(1, out=9)}))
    with pytest.raises(UserError, match="no LoRA module"):
        LoraUpdate({})
