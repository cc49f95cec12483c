"""The figures of every arm, against counts made by hand."""

import pytest

from grandrounds.domain.scoring import summarise
from grandrounds.params import Judge
from grandrounds.records import Prediction, Question, Verdict

PARAMS = Judge(judges={"reference": {"type": "reference"}, "other": {"type": "reference"}}, prompt="p", resamples=200)
QUESTIONS = [
    Question(f"{split}{i}", "s", split, f"g{i // 2}", ("pediatrics", "brain_senses")[i % 2], "t", "text", "yes_no", "?",
             [], "yes", "", [], "", [], "", "")
    for split in ("val", "test") for i in range(40)
]  # fmt: skip


def predictions(arm, right, prompts=("reasoning", "no_reasoning")):
    return [
        Prediction(arm, q.id, q.split, prompt, "", 9, True, i % 4 > 0, True, "", right(i, prompt), right(i, prompt))
        for prompt in prompts for i, q in enumerate(QUESTIONS)
    ]  # fmt: skip


def verdicts(rows, reasoning, judge="reference"):
    return [
        Verdict(r.arm, r.question_id, r.split, r.prompt, judge, int(r.correct), reasoning(i, r), "x")
        for i, r in enumerate(rows)
    ]


@pytest.fixture(scope="module")
def metrics():
    base = predictions("base", lambda i, prompt: i % 4 == 0)
    sft = predictions("sft", lambda i, prompt: i % 2 == 0 if prompt == "reasoning" else i % 4 == 0)
    rows = base + sft
    found = verdicts(rows, lambda i, r: None if r.prompt == "no_reasoning" or i % 2 else int(r.correct))
    found += [Verdict(r.arm, r.question_id, r.split, r.prompt, "other", None, None, "unscored: x") for r in rows]
    return summarise(QUESTIONS, rows, found, PARAMS, seed=7)


def test_shape(metrics):
    assert list(metrics) == ["base", "sft"]
    assert set(metrics["sft"]) == {"val", "test", "val_no_reasoning", "test_no_reasoning"}


def test_counts_and_rates(metrics):
    found = metrics["sft"]["test"]
    assert (found["n"], found["groups"], found["accuracy"]) == (40, 20, 0.5)
    assert found["low"] <= 0.5 <= found["high"]
    assert (found["lenient_accuracy"], found["unparsed_rate"], found["format_rate"]) == (0.5, 0.25, 1.0)
    assert found["by_specialty"] == {
        "brain_senses": {"n": 20, "accuracy": 0.0},
        "pediatrics": {"n": 20, "accuracy": 1.0},
    }
    assert found["by_kind"] == {"yes_no": {"n": 40, "accuracy": 0.5}} and set(found["by_topic"]) == {"t"}


def test_differences_are_paired_under_the_same_prompt(metrics):
    gain = metrics["sft"]["test"]["delta_base"]
    assert gain["difference"] == 0.25 and 0 < gain["low"] <= 0.25 <= gain["high"]
    assert metrics["sft"]["test_no_reasoning"]["delta_base"] == {"difference": 0.0, "low": 0.0, "high": 0.0}
    assert metrics["base"]["test"]["delta_sft"]["difference"] == -0.25
    assert metrics["sft"]["test"]["delta_sft"]["difference"] == 0.0


def test_prompt_gain_stands_with_the_reasoning_prompt(metrics):
    assert metrics["sft"]["test"]["prompt_gain"]["difference"] == 0.25
    assert metrics["base"]["val"]["prompt_gain"]["difference"] == 0.0
    assert "prompt_gain" not in metrics["sft"]["test_no_reasoning"]


def test_unscored_is_not_zero(metrics):
    found = metrics["sft"]["test"]
    assert (found["reasoning"], found["reasoning_n"]) == (1.0, 20)  # the odd rows are unscored
    assert found["judges"]["other"] == {"prediction": None, "reasoning": None, "reasoning_n": 0, "unscored": 40}
    assert found["judges"]["reference"]["prediction"] == 0.5
    bare = metrics["sft"]["test_no_reasoning"]
    assert (bare["reasoning"], bare["reasoning_low"], bare["reasoning_n"]) == (None, None, 0)


def test_same_figures_whatever_the_order_of_predictions(metrics):
    rows = predictions("base", lambda i, prompt: i % 3 == 0)
    one = summarise(QUESTIONS, rows, [], PARAMS, seed=7)
    assert one == summarise(QUESTIONS, rows[::-1], [], PARAMS, seed=7)
    assert "delta_sft" not in one["base"]["val"]  # there is no such arm


def test_a_question_without_an_answer_is_left_out():
    rows = predictions("base", lambda i, prompt: True, prompts=("reasoning",))
    found = summarise(QUESTIONS, rows[5:], [], PARAMS, seed=7)["base"]["val"]
    assert (found["n"], found["accuracy"]) == (35, 1.0)
