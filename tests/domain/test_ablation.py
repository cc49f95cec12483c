import dataclasses
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grandrounds.domain.ablation import compare
from grandrounds.domain.statistics import Resampler
from grandrounds.records import Prediction, Question

SEEDS, ASKED = 3, 40
BITS = st.lists(st.lists(st.booleans(), min_size=ASKED, max_size=ASKED), min_size=SEEDS, max_size=SEEDS)


def question(number: int, split: str = "test") -> Question:
    return Question(
        id=f"{split}{number}", source="s", split=split, group=f"group {number // 2}", specialty="pediatrics", topic="t",
        modality="text", kind="yes_no", question="?", options=[], label="", answer="yes", synonyms=[], explanation="",
        key_facts=[], conclusion="", image="",
    )  # fmt: skip


def answered(asked: list[Question], right: list[bool]) -> list[Prediction]:
    one = Prediction("a", "", "test", "reasoning", "", 5, True, True, True, "yes", True, True)
    rows = [
        dataclasses.replace(one, question_id=each.id, split=each.split, correct=value)
        for each, value in zip(asked, right, strict=True)
    ]
    other = [dataclasses.replace(row, prompt="no_reasoning", correct=not row.correct) for row in rows]
    return [*other, *rows]


@settings(max_examples=25, deadline=None)
@given(BITS, BITS)
def test_gain_is_the_paired_difference_of_means_over_seeds(first: list[list[bool]], second: list[list[bool]]) -> None:
    asked = [question(number) for number in range(ASKED)]
    runs = {name: [answered(asked, bits) for bits in each] for name, each in (("a", first), ("b", second))}
    found = compare(asked, runs, "a", 300, 7)["test"]
    by_seed = [(sum(b) - sum(a)) / ASKED for a, b in zip(first, second, strict=True)]
    gain = found["b"]["accuracy"]["gain"]
    assert gain["by_seed"] == pytest.approx(by_seed, abs=1e-6)
    assert gain["difference"] == pytest.approx(sum(by_seed) / SEEDS, abs=1e-6)
    assert gain["sd"] == pytest.approx(statistics.stdev(by_seed), abs=1e-6)
    means = [[sum(bits[i] for bits in each) / SEEDS for i in range(ASKED)] for each in (second, first)]
    interval = Resampler([each.group for each in asked], 300, 7).difference(*means)
    assert (gain["low"], gain["high"]) == pytest.approx((interval.low, interval.high), abs=1e-6)
    if gain["shown"] == "better":
        assert gain["low"] > 0 and min(by_seed) > 0
    assert "gain" not in found["a"]["accuracy"]


def test_an_interval_over_questions_alone_does_not_make_a_gain_shown() -> None:
    """One lucky seed of three: the questions agree, the seeds do not."""
    asked = [question(number) for number in range(ASKED)]
    none, every = [False] * ASKED, [True] * ASKED
    half = [number % 2 == 0 for number in range(ASKED)]
    runs = {
        "a": [answered(asked, half)] * 3,
        "lucky": [answered(asked, bits) for bits in (every, every, [*none[:25], *half[25:]])],
        "steady": [answered(asked, every)] * 3,
    }
    found = compare(asked, runs, "a", 300, 7)["test"]
    assert found["lucky"]["accuracy"]["gain"]["low"] > 0
    assert found["lucky"]["accuracy"]["gain"]["shown"] == "no"
    assert found["steady"]["accuracy"]["gain"]["shown"] == "better"


def test_reasoning_is_over_questions_with_facts_and_splits_stand_apart() -> None:
    with_facts = [dataclasses.replace(question(n), key_facts=["60 to 100"], conclusion="yes") for n in range(10)]
    asked = [*with_facts, *[question(n) for n in range(10, 20)], *[question(n, "unseen") for n in range(6)]]
    rows = answered(asked, [True] * len(asked))
    said = "<think>The range is 60 to 100. So yes.</think><answer>yes</answer>"
    sound = [dataclasses.replace(row, completion=said) for row in rows]
    found = compare(asked, {"a": [rows], "b": [sound]}, "a", 200, 1)
    assert found["test"]["b"]["reasoning"]["gain"]["difference"] == 1.0
    assert found["test"]["b"]["n"] == 20 and found["unseen"]["b"]["n"] == 6
    assert found["unseen"]["b"]["reasoning"]["mean"] is None
    assert found["test"]["b"]["accuracy"]["sd"] is None  # of one seed


def test_arms_want_the_same_seeds() -> None:
    asked = [question(1)]
    with pytest.raises(ValueError, match="same seeds"):
        compare(asked, {"a": [answered(asked, [True])] * 2, "b": [answered(asked, [True])]}, "a", 200, 1)
