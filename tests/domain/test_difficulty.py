from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from grandrounds.domain.difficulty import grade, summary
from grandrounds.params import Keep
from grandrounds.records import Question

ASKED = Question(
    "q", "s", "train", "g", "pediatrics", "Apgar", "text", "open_ended", "?", [], "a", "", [], "", [], "", ""
)


@given(st.lists(st.integers(0, 8), min_size=1, max_size=40), st.integers(0, 4), st.integers(4, 8))
def test_kept_is_exactly_between_the_bounds_and_nothing_is_lost(passes: list[int], low: int, high: int) -> None:
    keep = Keep(min=low, max=high)
    rows = [grade(replace(ASKED, id=str(i)), 8, count, 8, keep) for i, count in enumerate(passes)]
    for row, count in zip(rows, passes, strict=True):
        assert row.kept == (low <= count <= high) == (row.reason == "kept")
        assert (row.reason == "too_hard") == (count < low)
    told = summary(rows, 8)
    assert told["kept"] + told["too_easy"] + told["too_hard"] == told["questions"] == len(passes)
    assert sum(told["histogram"]) == len(passes)
    assert sum(k * n for k, n in enumerate(told["histogram"])) == sum(passes)
    assert sum(part["questions"] for part in told["by_specialty"].values()) == len(passes)


def test_unreadable_is_not_counted_as_wrong() -> None:
    told = summary([grade(ASKED, extracted=2, correct=0, n=8, keep=Keep())], 8)
    assert told["extraction_rate"] == 0.25 and told["accuracy"] == 0
