from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grandrounds.domain.difficulty import Decider, easy_to_hard, grade, refused, summary, warnings
from grandrounds.params import Bayesian, Exact, Full, Keep
from grandrounds.records import Difficulty, Question

ASKED = Question(
    "q", "s", "train", "g", "pediatrics", "Apgar", "text", "open_ended", "?", [], "a", "", [], "", [], "", ""
)
FULL = Full(type="full")


def follow(decider: Decider, outcomes: list[bool]) -> tuple[int, int]:
    """(drawn, correct) when a question with these outcomes is left."""
    drawn = 0
    while more := decider.needed(drawn, sum(outcomes[:drawn])):
        drawn += more
    return drawn, sum(outcomes[:drawn])


@st.composite
def rules(draw) -> tuple[int, Keep, list[bool]]:
    n = draw(st.integers(1, 16))
    low = draw(st.integers(0, n))
    keep = Keep(min=low, max=draw(st.integers(low, n)))
    return n, keep, draw(st.lists(st.booleans(), min_size=n, max_size=n))


@given(rules())
@settings(max_examples=300)
def test_the_exact_stop_decides_as_all_n_do_and_draws_no_sample_in_vain(rule) -> None:
    n, keep, outcomes = rule
    exact, full = Decider(n, keep, Exact()), Decider(n, keep, FULL)
    drawn, correct = follow(exact, outcomes)
    assert follow(full, outcomes) == (n, sum(outcomes))
    assert exact.decision(drawn, correct) == full.decision(n, sum(outcomes))
    # one sample at a time, asking after each whether any rest could change the decision: the best an exact rule can do
    one_by_one = next(
        k for k in range(n + 1)
        if len({full.reason(sum(outcomes[:k]) + more) for more in range(n - k + 1)}) == 1
    )  # fmt: skip
    assert drawn == one_by_one


@pytest.mark.parametrize(("outcomes", "drawn"), [([False] * 16, 16), ([True] * 16, 8), ([True] + [False] * 15, 10)])
def test_published_bounds_need_no_more_than_they_must(outcomes: list[bool], drawn: int) -> None:
    assert follow(Decider(16, Keep(min=1, max=7), Exact()), outcomes)[0] == drawn


@given(rules(), st.floats(0.001, 0.2))
@settings(max_examples=60)
def test_the_bayesian_stop_is_never_later_than_the_exact_one(rule, error: float) -> None:
    n, keep, outcomes = rule
    early = follow(Decider(n, keep, Bayesian(type="bayesian", error=error)), outcomes)[0]
    assert early <= follow(Decider(n, keep, Exact()), outcomes)[0]


@given(st.lists(st.integers(0, 8), min_size=1, max_size=40), st.integers(0, 4), st.integers(4, 8))
def test_kept_is_exactly_between_the_bounds_and_nothing_is_lost(passes: list[int], low: int, high: int) -> None:
    decider = Decider(8, Keep(min=low, max=high), FULL)
    rows = [grade(replace(ASKED, id=str(i)), 8, 8, count, decider) for i, count in enumerate(passes)]
    for row, count in zip(rows, passes, strict=True):
        assert row.kept == (low <= count <= high) == (row.reason == "kept")
        assert (row.reason == "too_hard") == (count < low)
    told = summary([*rows, refused(ASKED, 8)], 8)
    assert told["kept"] + told["too_easy"] + told["too_hard"] + told["refused"] == told["questions"] == len(passes) + 1
    assert sum(told["histogram"]) == len(passes)
    assert sum(k * n for k, n in enumerate(told["histogram"])) == sum(passes)
    assert sum(part["questions"] for part in told["by_specialty"].values()) == len(passes) + 1


def row(name: str, drawn: int, correct: int, extracted: int | None = None) -> Difficulty:
    read = drawn if extracted is None else extracted
    return grade(replace(ASKED, id=name), drawn, read, correct, Decider(16, Keep(min=1, max=7), Exact()))


def test_a_count_that_stopped_early_is_in_no_histogram_and_is_not_ranked_as_if_whole() -> None:
    stopped, whole = row("stopped", 8, 8), row("whole", 16, 9)
    told = summary([stopped, whole], 16)
    assert told["censored"] == 1 and told["histogram"][8] == 0 and told["histogram"][9] == 1
    assert told["samples"] == 24 and told["saved"] == 0.25
    assert [each.question_id for each in easy_to_hard([whole, stopped])] == ["stopped", "whole"]  # 8 of 8 is easier


def test_an_open_question_is_not_graded() -> None:
    with pytest.raises(ValueError, match="leave the decision open"):
        row("open", 4, 2)


def test_unreadable_is_not_counted_as_wrong_and_is_warned_of() -> None:
    unread = row("unread", 16, 0, extracted=4)
    told = summary([unread], 16)
    assert told["extraction_rate"] == 0.25 and told["accuracy"] == 0 and told["too_hard_unread"] == 1
    assert "form, not knowledge" in warnings([unread])[0]
    assert not warnings([row(str(i), 16, 0) for i in range(6)] + [unread])
