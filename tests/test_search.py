"""The search on a score that is known, cut off and gone on with."""

from pathlib import Path

import pytest

from grandrounds import search
from grandrounds.domain.merging.selection import Trial
from grandrounds.params import MergeMethod, MergeSearch, Ties

SPACE = MergeSearch(methods=("ties", "linear", "knots"), trials=8)


def score(method: MergeMethod) -> dict[str, float]:
    """Best at lambda 1.2 and density 0.4."""
    return {"x": 1 - abs(method.scale - 1.2), "y": 1 - abs(getattr(method, "density", 1.0) - 0.4)}


def run(study: Path, space: MergeSearch = SPACE, scored=score) -> tuple[list[Trial], list[int]]:
    noted: list[int] = []
    return search.trials(space, Ties(), scored, 7, study, lambda trial: noted.append(trial.number)), noted


def test_own_method_first_then_as_many_as_the_budget_says(tmp_path: Path) -> None:
    done, noted = run(tmp_path / "study.log")
    assert noted == [each.number for each in done] == list(range(9))
    assert done[0].method == Ties().model_dump() and {each.method["type"] for each in done} <= {*SPACE.methods}
    for each in done[1:]:
        assert 0.6 <= each.method["scale"] <= 1.6 and ("density" in each.method) == (each.method["type"] != "linear")
    again, noted = run(tmp_path / "study.log")
    assert again == done and noted == []


def test_a_search_that_was_cut_off_goes_on_to_the_same_end(tmp_path: Path) -> None:
    whole, _ = run(tmp_path / "whole.log")
    calls = iter(range(5))

    def dies(method: MergeMethod) -> dict[str, float]:
        if next(calls) == 4:
            raise KeyboardInterrupt
        return score(method)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut.log", scored=dies)
    rest, noted = run(tmp_path / "cut.log")
    assert rest == whole and noted == [4, 5, 6, 7, 8]


def test_no_trial_begins_when_the_time_is_up(tmp_path: Path) -> None:
    done, _ = run(tmp_path / "study.log", SPACE.model_copy(update={"minutes": 1e-9}))
    assert [each.number for each in done] == [0]
