import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from grandrounds.domain.agreement import Kappa, cohen, fleiss

# Fleiss (1971), table 1 as in Wikipedia's worked example: 10 subjects, 14 raters, 5 categories; kappa 0.210
FLEISS = [
    [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
]  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=2, max_size=40))
def test_cohen_is_scikit_learns(pairs):
    first, second = zip(*pairs, strict=True)
    made = cohen(first, second, [str(i) for i in range(len(pairs))], 200, 0)
    assert made.observed == pytest.approx(np.mean(np.equal(first, second)))
    if len(set(first + second)) == 1:
        assert made.value is None  # scikit-learn gives NaN, with a warning
    else:
        assert made.value == pytest.approx(cohen_kappa_score(first, second), abs=1e-12)


def test_fleiss_is_the_papers_and_statsmodels():
    ratings = [list(itertools.chain(*([category] * n for category, n in enumerate(row)))) for row in FLEISS]
    made = fleiss(ratings, [str(i) for i in range(10)], 500, 0)
    assert made.value == pytest.approx(0.2099, abs=1e-4) and made.observed == pytest.approx(0.378, abs=1e-3)
    assert made.low < made.value < made.high
    from statsmodels.stats import inter_rater

    assert made.value == pytest.approx(inter_rater.fleiss_kappa(np.array(FLEISS)), abs=1e-12)


def test_what_nobody_can_say_is_none_and_never_zero():
    assert cohen([1, 1, 1], [1, 1, 1], list("abc"), 200, 0) == Kappa(3, 1.0, None, None, None)
    assert cohen([None, 1], [1, None], list("ab"), 200, 0) == Kappa(0, None, None, None, None)
    assert cohen([0, 1], [0, 1], list("aa"), 200, 0).low is None  # one cluster says nothing of the spread
    assert fleiss([[1], [0]], list("ab"), 200, 0).n == 0
    assert fleiss([[1, 0, None], [1, 1, 1], [0, 0, 0]], list("abc"), 200, 0).n == 2


def test_the_interval_covers_and_clusters_widen_it():
    """Two raters, each right in 85 % of cases on balanced truth: kappa is (0.745 - 0.5) / 0.5 = 0.49."""
    chance, inside, widths = np.random.default_rng(5), 0, {1: [], 5: []}
    for trial in range(200):
        truth = chance.integers(0, 2, 100)
        one, two = (np.where(chance.random(100) < 0.85, truth, 1 - truth) for _ in range(2))
        made = cohen(one.tolist(), two.tolist(), [str(i) for i in range(100)], 400, trial)
        inside += made.low <= 0.49 <= made.high
        if trial < 20:
            for size, found in widths.items():
                again = cohen(np.repeat(one, size).tolist(), np.repeat(two, size).tolist(),
                              [str(i // size) for i in range(100 * size)], 400, trial)  # fmt: skip
                found.append(again.high - again.low)
    assert 0.90 <= inside / 200 <= 0.99
    assert np.mean(widths[5]) == pytest.approx(np.mean(widths[1]), rel=0.1)  # copies of one case are no new evidence
