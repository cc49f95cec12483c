import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from grandrounds.domain.statistics import Interval, Resampler

few = settings(max_examples=40, deadline=None)
SCORES = st.lists(st.sampled_from([0.0, 1.0, 0.25, None]), min_size=2, max_size=40)


def scores(seed: int, count: int, share: float = 0.6) -> np.ndarray:
    return (np.random.default_rng(seed).random(count) < share).astype(float)


def test_agrees_with_scipy_where_every_row_is_its_own_cluster() -> None:
    values = scores(0, 300)
    ours = Resampler([str(row) for row in range(300)], 4000, 1).mean(values)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=4000, method="percentile", rng=2).confidence_interval
    assert ours.value == values.mean()
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.008)
    assert ours.high - ours.low == pytest.approx(2 * 1.96 * values.std() / 300**0.5, rel=0.06)


def test_clusters_are_drawn_whole() -> None:
    """40 clusters of 10 equal rows hold 40 observations, not 400."""
    values = np.repeat(scores(3, 40), 10)
    clustered = Resampler([f"patient {row // 10}" for row in range(400)], 4000, 1).mean(values)
    naive = Resampler([str(row) for row in range(400)], 4000, 1).mean(values)
    ratio = (clustered.high - clustered.low) / (naive.high - naive.low)
    assert ratio == pytest.approx(10**0.5, rel=0.1)


@few
@given(SCORES, st.integers(0, 1000), st.integers(1, 10))
def test_missing_values_are_left_out(values: list[float | None], seed: int, clusters: int) -> None:
    groups = [str(row % clusters) for row in range(len(values))]
    got = Resampler(groups, 200, seed).mean(values)
    scored = [value for value in values if value is not None]
    if not scored:
        assert got == Interval(None, None, None)
        return
    assert got.value == pytest.approx(np.mean(scored))
    with_score = {group for group, value in zip(groups, values, strict=True) if value is not None}
    if len(with_score) < 2:
        assert got.low is None and got.high is None
    elif set(scored) in ({0.0}, {1.0}):  # no draw differs, and yet the next question may
        assert got.high - got.low == pytest.approx(1 - 0.025 ** (1 / len(with_score)))
    else:
        assert min(scored) <= got.low <= got.high <= max(scored)


@few
@given(SCORES, st.integers(0, 1000))
def test_a_paired_difference_is_the_mean_of_differences(values: list[float | None], seed: int) -> None:
    other = [None if row % 5 == 4 else 0.5 for row in range(len(values))]
    resampler = Resampler([str(row // 2) for row in range(len(values))], 200, seed)
    both = [None if a is None or b is None else a - b for a, b in zip(values, other, strict=True)]
    assert resampler.difference(values, other).value == resampler.mean(both).value
    forth, back = resampler.difference(values, other), resampler.difference(other, values)
    if forth.low is not None:
        assert (forth.low, forth.high) == pytest.approx((-back.high, -back.low))


def test_pairing_narrows_the_interval() -> None:
    base = scores(1, 400)
    better = np.where(np.arange(400) % 25 == 0, 1.0, base)  # a few more right, none lost
    resampler = Resampler([str(row) for row in range(400)], 2000, 1)
    paired, alone = resampler.difference(better, base), resampler.mean(better)
    assert paired.low > 0
    assert paired.high - paired.low < 0.4 * (alone.high - alone.low)
    assert resampler.difference(base, base) == Interval(0.0, 0.0, 0.0)


def test_seed_decides_and_the_order_of_rows_does_not() -> None:
    values, groups = scores(2, 200), [f"g{row % 30}" for row in range(200)]
    order = np.random.default_rng(0).permutation(200)
    one = Resampler(groups, 500, 7).mean(values)
    assert one == Resampler([groups[row] for row in order], 500, 7).mean(values[order])
    assert one != Resampler(groups, 500, 8).mean(values)


def test_other_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="3 rows"):
        Resampler(["a", "b", "c"], 200, 1).mean([1.0, 0.0])
    with pytest.raises(ValueError, match="rows and resamples"):
        Resampler([], 200, 1)


def test_a_whole_judgement_takes_seconds() -> None:
    """11 arms, 6 splits, 1,000 questions, 2,000 resamples: a mean and two differences each."""
    started = time.process_time()
    arms = [scores(arm, 1000) for arm in range(11)]
    for split in range(6):
        resampler = Resampler([str(row) for row in range(1000)], 2000, split)
        for arm in arms:
            resampler.mean(arm), resampler.difference(arm, arms[0]), resampler.difference(arm, arms[1])
    assert time.process_time() - started < 5
