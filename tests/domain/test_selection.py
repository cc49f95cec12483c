import pytest

from grandrounds.domain.merging.selection import Trial, frontier, kept, pick

BASE = {"x": 0.4, "y": 0.5}
OWN = {"x": 0.8, "y": 0.7}


def trial(number: int, x: float, y: float) -> Trial:
    return Trial(number, {"type": "ties"}, {"x": x, "y": y})


def test_kept_is_the_share_of_each_gain() -> None:
    assert kept({"x": 0.6, "y": 0.45}, BASE, OWN) == pytest.approx({"x": 0.5, "y": -0.25})
    assert kept({"x": 0.3, "y": 0.7}, BASE, OWN | {"x": 0.4}) == pytest.approx({"x": 1.0, "y": 1.0})  # nothing to lose


def test_the_best_mean_does_not_win_when_it_loses_a_specialist() -> None:
    trials = [trial(0, 0.65, 0.62), trial(1, 0.9, 0.5), trial(2, 0.66, 0.62)]
    choice = pick(trials, BASE, OWN, 0.5)
    assert trials[1].macro > trials[2].macro and choice.trial is trials[2] and choice.lost == []
    assert pick(trials, BASE, OWN, 0.0).trial is trials[1]


def test_where_all_lose_the_least_loss_is_taken_and_told() -> None:
    choice = pick([trial(0, 0.9, 0.5), trial(1, 0.6, 0.55)], BASE, OWN, 0.9)
    assert choice.trial.number == 1 and choice.lost == ["x", "y"] and "loses least" in choice.why


def test_equal_trials_leave_the_first() -> None:
    assert pick([trial(0, 0.7, 0.7), trial(1, 0.7, 0.7)], BASE, OWN, 0.5).trial.number == 0


def test_frontier_has_what_nothing_beats() -> None:
    trials = [trial(0, 0.6, 0.6), trial(1, 0.7, 0.5), trial(2, 0.6, 0.5), trial(3, 0.6, 0.6)]
    assert [each.number for each in frontier(trials)] == [0, 1, 3]
