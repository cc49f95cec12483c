"""Intervals and tests against scipy and statsmodels on fixed data, and by simulation: coverage, level, power."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from grandrounds.domain.statistics import (
    FEWEST_CLUSTERS,
    Interval,
    Resampler,
    detectable,
    expanded_tail,
    flip_test,
    holm,
    macro,
    ruling,
)


def rows(clusters: int, size: int, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    """Right or wrong answers [clusters * size] that are alike within clusters, and the cluster of each."""
    rng = np.random.default_rng(seed)
    ability = rng.beta(2, 2, clusters)
    values = rng.random((clusters, size)) < ability[:, None]
    return values.astype(float).ravel(), [f"c{i // size}" for i in range(clusters * size)]


# --- agreement on fixed data ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("clusters", "size"), [(200, 1), (40, 6), (15, 8)])
def test_intervals_agree_with_scipys_bootstrap_of_clusters(clusters: int, size: int) -> None:
    values, groups = rows(clusters, size)
    ours = Resampler(groups, 20000, 1).mean(values)
    level = 1 - 2 * expanded_tail(clusters)  # the same draws, read as far out
    means = values.reshape(clusters, size).mean(axis=1)
    theirs = stats.bootstrap((means,), np.mean, n_resamples=20000, method="percentile", confidence_level=level, rng=2)
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs.confidence_interval), abs=0.006)


@pytest.mark.parametrize(("clusters", "size"), [(200, 1), (40, 6), (15, 8)])
def test_widths_agree_with_statsmodels_cluster_robust_errors(clusters: int, size: int) -> None:
    values, groups = rows(clusters, size)
    ours = Resampler(groups, 20000, 1).mean(values)
    fit = OLS(values, np.ones(len(values))).fit(
        cov_type="cluster", cov_kwds={"groups": np.unique(groups, return_inverse=True)[1]}, use_t=True
    )
    low, high = fit.conf_int()[0]
    assert ours.high - ours.low == pytest.approx(high - low, rel=0.05)


def test_the_tail_tends_to_the_plain_percentile() -> None:
    assert expanded_tail(10**6) == pytest.approx(0.025, abs=1e-5)
    assert expanded_tail(15) < expanded_tail(30) < 0.025
    assert expanded_tail(15) == pytest.approx(stats.norm.cdf(-((15 / 14) ** 0.5) * stats.t.ppf(0.975, 14)))


@pytest.mark.parametrize("n", [2, 30, 300])
@pytest.mark.parametrize("right", [0, 1])
def test_all_right_and_all_wrong_have_the_exact_interval(n: int, right: int) -> None:
    got = Resampler([str(i) for i in range(n)], 200, 1).mean([float(right)] * n)
    assert (got.low, got.high) == pytest.approx(proportion_confint(right * n, n, method="beta"))


@pytest.mark.parametrize(("wins", "losses", "ties"), [(20, 8, 50), (3, 0, 4), (0, 0, 9), (40, 41, 0), (500, 400, 100)])
def test_the_flip_test_is_mcnemars_where_each_question_is_its_own_cluster(wins: int, losses: int, ties: int) -> None:
    theirs = mcnemar([[ties, wins], [losses, 0]], exact=True).pvalue
    assert flip_test([1] * wins + [-1] * losses + [0] * ties) == pytest.approx(theirs)
    first, second = [1.0] * wins + [0.0] * losses + [1.0] * ties, [0.0] * wins + [1.0] * losses + [1.0] * ties
    paired = Resampler([str(i) for i in range(len(first))], 200, 1).paired(first, second)
    assert (paired.wins, paired.losses, paired.clusters) == (wins, losses, wins + losses + ties)
    assert paired.p == pytest.approx(theirs)


def test_the_flip_test_of_clusters_agrees_with_scipys_permutation_test() -> None:
    sums = np.array([3, -1, 2, 4, 0, -2, 1, 1, 5, -1, 2])
    theirs = stats.permutation_test((sums,), np.sum, permutation_type="samples", n_resamples=np.inf).pvalue
    assert flip_test(sums) == pytest.approx(theirs)


def test_holm_agrees_with_statsmodels() -> None:
    p = {"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.5}
    assert list(holm(p).values()) == pytest.approx(multipletests(list(p.values()), method="holm")[1])
    assert holm({}) == {}


# --- what is said of a difference ----------------------------------------------------------------------------------


def test_better_needs_clusters_interval_and_corrected_p() -> None:
    apart, open_ = Interval(0.1, 0.02, 0.2), Interval(0.1, -0.02, 0.2)
    assert ruling(apart, FEWEST_CLUSTERS, 0.01) == "better"
    assert ruling(Interval(-0.1, -0.2, -0.02), 40, 0.01) == "worse"
    assert ruling(apart, 40, 0.06) == ruling(open_, 40, 0.01) == "no difference shown"
    assert ruling(apart, FEWEST_CLUSTERS - 1, 1e-9) == ruling(Interval(0.1, None, None), 1, 0.0) == "too few clusters"
    assert ruling(apart, 40, None) == "too few clusters"


def test_a_macro_mean_weighs_sets_alike() -> None:
    small, large = Resampler([str(i) for i in range(50)], 4000, 1), Resampler([str(i) for i in range(500)], 4000, 2)
    a, b = np.arange(50) % 2, (np.arange(500) % 10 > 0).astype(float)
    got = macro([(small, a), (large, b)])
    assert got.value == pytest.approx((0.5 + 0.9) / 2)
    spread = (0.25 / 50 + 0.09 / 500) ** 0.5 / 2
    assert got.high - got.low == pytest.approx(2 * stats.t.ppf(0.975, 49) * spread, rel=0.06)
    assert macro([(small, a), (large, [None] * 500)]) == Interval(None, None, None)


def test_the_detectable_difference_shrinks_with_n_and_grows_with_discordance() -> None:
    assert detectable(4000, 0.2) < detectable(1000, 0.2) < detectable(1000, 0.4)
    assert detectable(20, 0.1) is None  # not even all discordant questions on one side would show
    assert detectable(1000, 0.0) is None and detectable(0, 0.2) is None


def test_clusters_widen_the_detectable_difference() -> None:
    values, groups = rows(60, 5)
    other, _ = rows(60, 5, seed=9)
    clustered = Resampler(groups, 200, 1).paired(values, other)
    alone = Resampler([str(i) for i in range(300)], 200, 1).paired(values, other)
    assert clustered.detectable > alone.detectable and (clustered.clusters, alone.clusters) == (60, 300)
    assert clustered.p > alone.p  # the same wins and losses, fewer independent ones


# --- simulation ----------------------------------------------------------------------------------------------------


def coverage(clusters: int, size: int, runs: int, ability: tuple[float, float] | float, seed: int = 0) -> float:
    """How often the interval holds the true mean, over `runs` sets; `ability`: one for all, or a Beta's parameters."""
    rng, hits = np.random.default_rng(seed), 0
    resampler = Resampler(np.repeat(np.arange(clusters), size).astype(str), 1000, seed)
    a_b = ability if isinstance(ability, tuple) else None
    truth = a_b[0] / sum(a_b) if a_b else ability
    for _ in range(runs):
        own = rng.beta(*a_b, (clusters, 1)) if a_b else np.full((clusters, 1), truth)
        got = resampler.mean((rng.random((clusters, size)) < own).astype(float).ravel())
        hits += got.low - 1e-12 <= truth <= got.high + 1e-12
    return hits / runs


def test_coverage_of_independent_questions_and_of_clusters() -> None:
    """1,000 runs: a standard error of 0.7 points, so that bounds stand two of them outside the claim's."""
    assert 0.916 <= coverage(200, 1, 1000, 0.7) <= 0.984
    assert coverage(FEWEST_CLUSTERS, 8, 1000, (2.0, 2.0)) >= 0.9
    assert coverage(50, 8, 1000, (2.0, 2.0)) >= 0.92


@pytest.mark.slow
@pytest.mark.parametrize("accuracy", [0.5, 0.7, 0.9])
@pytest.mark.parametrize("n", [100, 300, 1000])
def test_coverage_of_independent_questions_is_93_to_97(n: int, accuracy: float) -> None:
    assert 0.93 <= coverage(n, 1, 8000, accuracy) <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize("clusters", [15, 20, 30])
@pytest.mark.parametrize("ability", [(2.0, 2.0), (4.0, 1.0), (9.0, 1.0)])
def test_coverage_from_15_clusters_is_90_or_more(clusters: int, ability: tuple[float, float]) -> None:
    assert coverage(clusters, 8, 8000, ability) >= 0.90


def test_row_wise_draws_of_clustered_answers_cover_too_little() -> None:
    """Why groups are drawn whole: the same answers, taken for independent."""
    hits = 0
    resampler = Resampler([str(i) for i in range(400)], 500, 5)
    for seed in range(300):
        got = resampler.mean(rows(50, 8, seed)[0])
        hits += got.low <= 0.5 <= got.high
    assert hits / 300 < 0.88


@pytest.mark.parametrize(("n", "discordant"), [(200, 0.3), (1000, 0.2)])
def test_a_detectable_difference_is_detected_four_times_of_five(n: int, discordant: float) -> None:
    rng, true = np.random.default_rng(3), detectable(n, discordant)
    wins, losses, _ = rng.multinomial(n, [(discordant + true) / 2, (discordant - true) / 2, 1 - discordant], 800).T
    shown = [stats.binomtest(int(w), int(w + each)).pvalue < 0.05 for w, each in zip(wins, losses, strict=True)]
    assert 0.74 <= np.mean(shown) <= 0.86


def test_the_flip_test_keeps_its_level_on_clusters_where_mcnemars_does_not() -> None:
    """Two arms that are equally good, but differ by cluster: a plain McNemar test finds a difference far too often."""
    rng, ours, plain, runs = np.random.default_rng(4), 0, 0, 500
    for _ in range(runs):
        signs = rng.choice([-1, 0, 1], (30, 1), p=[0.3, 0.4, 0.3]) * (rng.random((30, 6)) < 0.8)
        ours += flip_test(signs.sum(axis=1)) < 0.05
        plain += flip_test(signs.ravel()) < 0.05
    assert ours / runs < 0.075 < 0.2 < plain / runs
