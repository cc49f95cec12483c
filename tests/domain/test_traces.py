from dataclasses import replace

import pytest

from grandrounds.domain.traces import choose, facts
from grandrounds.params import Gates
from grandrounds.records import Question

ASKED = Question(
    "q", "s", "train", "g", "pediatrics", "vital signs", "text", "multiple_choice",
    "Infant of three months: heart rate 190 a minute, measured twice at rest in the clinic today. What is it?",
    ["low", "normal", "high"], "high", "", [], "", ["normal is 100 to 160", "190 vs 160: above"], "high", "",
)  # fmt: skip
GOOD = "Normal is 100 to 160. 190 vs 160: above. So high."


def turn(thinking: str, answer: str = "high") -> str:
    return f"<think>{thinking}</think><answer>{answer}</answer>"


@pytest.mark.parametrize(
    ("thinking", "reason"),
    [
        (GOOD, ""),
        ("So high.", "too_short"),
        ("It is fast " * 600, "too_long"),
        ("Частота сердечных сокращений выше нормы. So high.", "language"),
        ("It is above the range. " * 12 + "So high.", "repeated"),
        (ASKED.question + " So high.", "copied"),
        ("The answer is high. Normal is 100 to 160. So high.", "answer_first"),
        ("Normal is 100 to 160, and 190 is within. So normal.", "contradiction"),
        ("Normal is 100 to 160. The child is ill.", ""),  # names no answer: nothing to contradict
    ],
)
def test_each_gate_names_its_fault(thinking: str, reason: str) -> None:
    choice = choose(ASKED, [turn(thinking)], Gates(max_words=1000), "first")
    assert (choice.reason, choice.sample, choice.correct) == (reason, None if reason else 0, 1)


def test_yes_and_no_contradict_each_other() -> None:
    asked = replace(ASKED, kind="yes_no", options=[], answer="yes")
    assert choose(asked, [turn("It is above the range. No.", "yes")], Gates(), "first").reason == "contradiction"
    assert choose(asked, [turn("It is above the range. Yes.", "yes")], Gates(), "first").sample == 0


def test_wrong_and_unreadable_are_told_apart() -> None:
    assert choose(ASKED, [turn(GOOD, "low"), "nothing"], Gates(), "first").reason == "never_right"
    assert choose(ASKED, ["nothing", ""], Gates(), "first").reason == "never_read"
    assert choose(ASKED, [], Gates(), "first").reason == "never_read"


def test_how_one_of_several_is_chosen() -> None:
    samples = [
        turn("wrong", "low"),
        turn("It is very clearly above what one expects at that age. So high."),
        turn("It is above. So high."),
        turn(GOOD),
    ]
    chosen = {how: choose(ASKED, samples, Gates(), how).sample for how in ("first", "shortest", "longest", "facts")}
    assert chosen == {"first": 1, "shortest": 2, "longest": 1, "facts": 3}
    assert facts(ASKED, GOOD) == 2
