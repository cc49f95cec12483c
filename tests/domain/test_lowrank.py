import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from grandrounds.domain import lowrank
from grandrounds.domain.adapters import LoraFactors
from grandrounds.domain.lowrank import compress

few = settings(max_examples=25, deadline=None)
sizes = st.integers(2, 8)


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def factors(seed: int, out: int = 9, rank: int = 3, width: int = 8) -> LoraFactors:
    return LoraFactors(normal(seed, rank, width), normal(seed + 1, out, rank), 2.0)


@few
@given(st.integers(0, 2**31), st.integers(1, 6), sizes, sizes)
def test_a_cut_is_the_best_of_its_rank(seed: int, rank: int, out: int, width: int) -> None:
    dense = normal(seed, out, width)
    cut = compress(dense, rank)
    values = torch.linalg.svdvals(dense.double())
    assert cut.factors.rank == min(rank, out, width) and cut.norm == pytest.approx(float(dense.norm()))
    assert cut.error == pytest.approx(float(values[rank:].norm() / values.norm()), abs=1e-6)
    assert cut.error == pytest.approx(float((dense - cut.factors.dense()).norm() / dense.norm()), abs=1e-6)


@few
@given(st.integers(0, 2**31), st.integers(1, 5), st.integers(1, 12), sizes, sizes)
def test_factors_are_cut_as_their_dense_update_is(seed: int, rank: int, own: int, out: int, width: int) -> None:
    """Also where the factors are longer than the matrix is wide."""
    update = factors(seed, out, own, width)
    core, dense = compress(update, rank), compress(update.dense(), rank)
    assert core.norm == pytest.approx(dense.norm, rel=1e-5) and core.error == pytest.approx(dense.error, abs=1e-5)
    gap = (update.dense() - core.factors.dense()).norm() / update.dense().norm()
    assert float(gap) == pytest.approx(core.error, abs=1e-5)


@pytest.mark.parametrize("own", [True, False])
@few
@given(seed=st.integers(0, 2**31), energy=st.floats(0.3, 1.0))
def test_energy_takes_the_smallest_rank_that_keeps_it(own: bool, seed: int, energy: float) -> None:
    update = factors(seed, rank=6)
    cut = compress(update if own else update.dense(), energy=energy)
    values = torch.linalg.svdvals(update.dense().double()).square()
    held = values.cumsum(0) / values.sum()
    size = cut.factors.rank
    assert held[size - 1] >= energy - 1e-6 and (size == 1 or held[size - 2] < energy + 1e-6)
    assert cut.error**2 == pytest.approx(float(1 - held[size - 1]), abs=1e-5)


@pytest.mark.parametrize("rank", [8, 24])
def test_the_sketch_is_within_a_percent_of_the_best(rank: int) -> None:
    generator = torch.Generator().manual_seed(3)
    flat = torch.randn(600, 500, generator=generator)  # no spectrum is harder
    steep = normal(1, 600, 40) @ torch.diag(0.8 ** torch.arange(40.0)) @ normal(2, 40, 500)
    for dense in (flat, flat + steep):
        cut = compress(dense, rank)
        values = torch.linalg.svdvals(dense.double())
        best = float(values[rank:].norm() / values.norm())
        assert best <= cut.error + 1e-6 and cut.error < 1.01 * best


def test_the_sketch_grows_until_it_holds_the_energy(monkeypatch: pytest.MonkeyPatch) -> None:
    dense = normal(1, 900, 120) @ normal(2, 120, 800)
    tried: list[int] = []
    sketch = lowrank._sketch
    monkeypatch.setattr(lowrank, "_sketch", lambda update, size: tried.append(size) or sketch(update, size))
    cut = compress(dense, energy=0.9)
    assert len(tried) == 2 and 64 < cut.factors.rank <= 120 and cut.error**2 == pytest.approx(0.1, abs=0.01)


def test_signs_are_fixed_and_noise_is_dropped() -> None:
    dense = factors(3).dense()  # rank 3
    cut = compress(dense, 6)
    a, b = cut.factors.a, cut.factors.b
    assert cut.error < 1e-6 and not a[3:].any() and not b[:, 3:].any()
    assert (b.gather(0, b.abs().argmax(dim=0, keepdim=True))[0, :3] > 0).all()
    negated = compress(-dense, 6).factors
    assert torch.equal(negated.b, b) and torch.equal(negated.a, -a)


def test_zero_stays_zero() -> None:
    for update in (torch.zeros(4, 3), LoraFactors(torch.zeros(2, 3), torch.ones(4, 2))):
        cut = compress(update, 2)
        assert cut.error == 0.0 == cut.norm and not cut.factors.dense().any() and cut.factors.rank == 2
