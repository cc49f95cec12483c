"""pass@k against counting all draws, and the majority over readings of one answer."""

from dataclasses import replace
from itertools import combinations

import pytest

from grandrounds.domain.answers import verify
from grandrounds.domain.sampling import majority, pass_at
from grandrounds.records import Prediction, Question

ASKED = Question("q", "s", "test", "g", "other", "t", "text", "multiple_choice", "?", ["heart", "liver", "lung"],
                 "liver", "B", [], "", [], "", "")  # fmt: skip


def said(*answers: str, asked: Question = ASKED) -> list[Prediction]:
    out = []
    for answer in answers:
        text = f"<think>x</think><answer>{answer}</answer>"
        read = verify(asked, text)
        out.append(Prediction("a", "q", "test", "sampled", text, 1, True, read.extracted, read.format_ok, read.answer,
                              read.correct, read.correct))  # fmt: skip
    return out


@pytest.mark.parametrize("correct", range(6))
@pytest.mark.parametrize("k", range(1, 6))
def test_pass_at_k_is_the_share_of_draws_with_a_right_one(k: int, correct: int) -> None:
    draws = list(combinations([1] * correct + [0] * (5 - correct), k))
    assert pass_at(k, 5, correct) == pytest.approx(sum(map(any, draws)) / len(draws))


@pytest.mark.parametrize(("k", "n", "correct"), [(0, 5, 1), (6, 5, 1), (1, 5, 6), (1, 5, -1)])
def test_impossible_counts_are_refused(k: int, n: int, correct: int) -> None:
    with pytest.raises(ValueError, match="of n"):
        pass_at(k, n, correct)


@pytest.mark.parametrize(
    ("answers", "right"),
    [
        (["liver", "B", "heart"], 1.0),
        (["B", "A", "heart", "A. heart"], 0.0),  # three readings of one wrong option outvote a right one
        (["B", "heart"], 0.5),
        (["B", "heart", "lung"], 1 / 3),
        (["", " ", ""], 0.0),
        (["B", "", ""], 1.0),  # what cannot be read does not vote
    ],
)
def test_the_majority(answers: list[str], right: float) -> None:
    assert majority(ASKED, said(*answers)) == pytest.approx(right)


def test_open_ended_answers_vote_as_normalised() -> None:
    asked = replace(ASKED, options=[], label="", kind="open_ended")
    assert majority(asked, said("The lung.", "lung", "liver", asked=asked)) == 0.0
    assert majority(asked, said("The liver.", "liver", "lung", asked=asked)) == 1.0
