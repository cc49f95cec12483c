"""Every reward's rule, and what tries to get paid without an answer."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grandrounds.domain import rewards
from grandrounds.errors import UserError
from grandrounds.records import Question

PLAIN = Question(
    "q", "s", "train", "g", "other", "t", "text", "multiple_choice", "?", ["fast", "slow"], "fast", "A", [],
    "normal is 60 to 100. So fast.", ["normal is 60 to 100"], "fast", "",
)  # fmt: skip
ASKED = dataclasses.asdict(PLAIN)
OPEN = ASKED | {"kind": "open_ended", "options": [], "label": "", "answer": "102 bpm", "synonyms": ["tachycardia"]}
GOOD = "<think>So fast.</think><answer>fast</answer>"

HACKS = {
    "nothing": "",
    "empty answer": "<think>x</think><answer></answer>",
    "blank answer": "<think>x</think><answer> \u200b </answer>",
    "two answers": GOOD + "<answer>fast</answer>",
    "two different answers": GOOD + "<answer>slow</answer>",
    "options listed back": "<think>x</think><answer>fast, slow</answer>",
    "letters listed back": "<think>x</think><answer>A, B</answer>",
    "nested answers": "<think>x</think><answer><answer>fast</answer></answer>",
    "answer inside thinking": "<think>x <answer>fast</answer></think>",
    "answer inside thinking, and after": "<think><answer>fast</answer></think><answer>fast</answer>",
    "answer in a thinking left open": "<think>x <answer>fast</answer>",
    "look-alike second block": GOOD + "\uff1canswer\uff1eslow\uff1c/answer\uff1e",
}


class Likeness:
    """A scorer that gives the share of shared words, and remembers what it was asked."""

    def __init__(self):
        self.asked = []

    def f1(self, candidates, references):
        self.asked += zip(candidates, references, strict=True)
        return [
            2 * len({*c.split()} & {*r.split()}) / max(len(c.split()) + len(r.split()), 1) if c and r else 0.0
            for c, r in zip(candidates, references, strict=True)
        ]


@pytest.mark.parametrize("name", HACKS)
def test_hacks_earn_nothing(name):
    text = [HACKS[name]]
    assert rewards.gated_correctness(text, question=[ASKED]) == [0.0]
    assert rewards.accuracy(text, question=[ASKED], scorer=Likeness()) == [0.0]
    if "listed" not in name:  # a wrong answer in the right form
        assert rewards.format(text)[0] < 1.0


@pytest.mark.parametrize("name", [name for name in HACKS if "listed" not in name])
def test_hacks_earn_nothing_when_open_ended(name):
    scorer = Likeness()
    text = HACKS[name].replace("fast", "102 bpm")
    assert rewards.accuracy([text], question=[OPEN], scorer=scorer) == [0.0]
    assert not scorer.asked


def test_gated_correctness_needs_form_and_answer():
    texts = [GOOD, GOOD.replace(">fast", ">slow"), "<answer>fast</answer>", GOOD + " ", GOOD + "."]
    assert rewards.gated_correctness(texts, question=[ASKED] * 5) == [1.0, 0.0, 0.0, 1.0, 0.0]


def test_format_has_three_steps():
    texts = [GOOD, "<think>x</think>", "</answer>", "x <answer>fast</answer>", "fast", ""]
    assert rewards.format(texts) == [1.0, 0.1, 0.1, 0.1, 0.0, 0.0]


def test_length_tops_out_at_the_limit():
    ids = [[1] * 5, [1] * 64, [1] * 640, []]
    assert rewards.length([""] * 4, completion_ids=ids) == [0.005, 0.064, 0.64, 0.0]
    assert rewards.length([""] * 4, completion_ids=ids, limit=64) == [5 / 64, 1.0, 1.0, 0.0]
    with pytest.raises(ValueError, match="4 completions but 1"):
        rewards.length([""] * 4, completion_ids=[[1]])


def test_accuracy_is_binary_with_options_and_graded_without():
    texts = [GOOD, "<answer>slow</answer>", "<answer>A</answer>"]
    assert rewards.accuracy(texts, question=[ASKED] * 3, scorer=Likeness()) == [1.0, 0.0, 1.0]
    texts = [f"<answer>{answer}</answer>" for answer in ("102 beats per minute", "some tachycardia", "cold")]
    assert rewards.accuracy(texts, question=[OPEN] * 3, scorer=Likeness()) == [1.0, pytest.approx(2 / 3), 0.0]


def test_yes_no_is_never_graded():
    scorer = Likeness()
    asked = OPEN | {"kind": "yes_no", "answer": "yes", "synonyms": []}
    assert rewards.accuracy(["<answer>yes but no</answer>"], question=[asked], scorer=scorer) == [0.0]
    assert not scorer.asked


def test_reasoning_applies_only_with_an_explanation():
    without = ASKED | {"explanation": " "}
    texts = [GOOD, GOOD, "<answer>fast</answer>"]
    found = rewards.reasoning(texts, question=[ASKED, without, ASKED], scorer=Likeness())
    assert found == [pytest.approx(4 / 9), None, 0.0]


def test_scores_stay_in_bounds():
    class Odd:
        def f1(self, candidates, references):
            return [-0.2, 1.0000001][: len(candidates)]

    assert rewards.reasoning([GOOD] * 2, question=[ASKED] * 2, scorer=Odd()) == [0.0, 1.0]


def test_prefill_and_conversations_count_as_completion():
    rest = "So fast.</think><answer>fast</answer>"
    turns = [{"role": "assistant", "content": rest}]
    parts = [{"role": "assistant", "content": [{"type": "text", "text": rest}]}]
    for completion in (rest, turns, parts):
        for name in ("gated_correctness", "accuracy", "format"):
            reward = rewards.REWARDS[name]
            assert reward([completion], question=[ASKED], prefill=["<think>"], scorer=Likeness()) == [1.0]
    assert rewards.format([rest], prefill=[None]) == [0.1]


def test_build_names_functions_as_the_table():
    scorer = Likeness()
    functions, weights = rewards.build({"format": 1.0, "length": 0.5, "reasoning": 2.0}, scorer, limit=64)
    assert [function.__name__ for function in functions] == ["format", "length", "reasoning"]
    assert weights == [1.0, 0.5, 2.0]
    columns = {"question": [ASKED], "completion_ids": [[1] * 32], "prompts": ["?"], "trainer_state": None}
    assert [function([GOOD], **columns)[0] for function in functions] == [1.0, 0.5, pytest.approx(4 / 9)]


def test_build_refuses_unknown_names_and_a_missing_scorer():
    with pytest.raises(UserError, match="did you mean 'format'"):
        rewards.build({"fromat": 1.0})
    with pytest.raises(ValueError, match="'accuracy' needs a scorer"):
        rewards.build({"accuracy": 1.0})


def test_repetition_takes_back_what_padding_gains():
    ids = [[1, 2, 3, 4, 5, 6, 7, 8], [*range(8)] * 4, [1] * 64, [1, 2], []]
    assert rewards.repetition([""] * 5, completion_ids=ids) == [0.0, -0.75, -63 / 64, 0.0, 0.0]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=8, max_size=40), st.integers(1, 30), st.integers(0, 500))
def test_padding_earns_no_more_than_what_is_distinct_would_alone(passage, times, room):
    tokens = passage * times
    columns = {"completion_ids": [tokens], "limit": len(tokens) + room}
    earned = rewards.length([""], **columns)[0] + rewards.repetition([""], **columns)[0]
    ring = tokens + tokens[:3]
    distinct = len({tuple(ring[i : i + 4]) for i in range(len(tokens))})
    assert distinct <= len(passage) and earned <= distinct / columns["limit"] + 1e-9


def test_overlong_is_a_ramp_to_the_limit():
    ids = [[1] * n for n in (0, 80, 90, 100, 120)]
    found = rewards.overlong([""] * 5, completion_ids=ids, limit=100)
    assert found == [0.0, 0.0, pytest.approx(-0.5), -1.0, -1.0]


def test_a_schedule_is_a_line_between_its_steps():
    weights = {"format": 0.5, "length": {10: 1.0, 20: 0.0}, "accuracy": {5: 2.0}}
    found = [rewards.weights_at(weights, step) for step in (0, 10, 15, 20, 99)]
    assert [row[1] for row in found] == [1.0, 1.0, 0.5, 0.0, 0.0]
    assert {(row[0], row[2]) for row in found} == {(0.5, 2.0)}


@pytest.mark.parametrize("thinking", ["", " \u200b ", "<think></think>", "<answer>fast</answer>"])
def test_empty_thinking_earns_no_reasoning(thinking):
    text = f"<think>{thinking}</think><answer>fast</answer>"
    assert rewards.reasoning([text], question=[ASKED], scorer=Likeness())[0] <= 0.2


def test_the_reference_after_the_answer_is_no_thinking():
    """Neither a second think block nor text behind the answer counts."""
    for hack in ("<think></think><answer>fast</answer>{}", "<think></think><think>{}</think><answer>fast</answer>"):
        text = hack.format(PLAIN.explanation)
        assert rewards.reasoning([text], question=[ASKED], scorer=Likeness()) == [0.0]
        assert rewards.format([text]) == [0.1]
