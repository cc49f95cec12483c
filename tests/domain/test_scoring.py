"""The figures of every arm, against counts made by hand."""

import dataclasses

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
    assert gain["wins"] == 10 and gain["losses"] == 0 and gain["ruling"] == "better"
    assert gain["p"] == gain["p_holm"] == pytest.approx(2 * 0.5**10, abs=1e-6)  # ten clusters, all on one side
    same = metrics["sft"]["test_no_reasoning"]["delta_base"]
    assert (same["difference"], same["low"], same["high"]) == (0.0, 0.0, 0.0)
    assert (same["p"], same["detectable"], same["ruling"]) == (1.0, None, "no difference shown")
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


def test_p_values_are_corrected_for_the_number_of_arms():
    base = predictions("base", lambda i, prompt: i % 4 == 0, ("reasoning",))
    better = predictions("a", lambda i, prompt: i % 4 in (0, 2), ("reasoning",))
    alike = [row for arm in ("b", "c", "d") for row in predictions(arm, lambda i, p: i % 4 == 0, ("reasoning",))]
    found = summarise(QUESTIONS, base + better + alike, [], PARAMS, seed=7)
    delta = found["a"]["test"]["delta_base"]
    assert delta["p_holm"] == pytest.approx(4 * delta["p"], abs=1e-5) and delta["ruling"] == "better"
    assert found["base"]["test"]["delta_base"] == {"difference": 0.0, "low": 0.0, "high": 0.0}


def test_nothing_is_better_on_few_groups():
    few = [dataclasses.replace(q, group=f"g{i % 14}") for i, q in enumerate(QUESTIONS)]
    base = predictions("base", lambda i, prompt: False, ("reasoning",))
    better = predictions("sft", lambda i, prompt: True, ("reasoning",))
    delta = summarise(few, base + better, [], PARAMS, seed=7)["sft"]["test"]["delta_base"]
    assert delta["difference"] == 1.0 and delta["p"] < 0.001 and delta["ruling"] == "too few clusters"


def test_samples_give_pass_at_k_and_the_majority():
    sampled = predictions("base", lambda i, prompt: i % 4 == 0, ("sampled",)) * 3
    sampled += predictions("base", lambda i, prompt: True, ("sampled",))
    sampled = [dataclasses.replace(row, extracted=True, answer="yes" if row.correct else "no") for row in sampled]
    found = summarise(QUESTIONS, sampled, [], PARAMS, seed=7)["base"]
    assert set(found) == {"val_sampled", "test_sampled"}
    figures = found["test_sampled"]
    assert (figures["n"], figures["samples"], figures["majority"]) == (40, 4, 0.25)
    assert figures["pass_at"] == {"1": 0.4375, "2": 0.625, "4": 1.0} and figures["accuracy"] == 0.4375


def test_the_macro_mean_is_over_benchmarks_only():
    asked = QUESTIONS + [dataclasses.replace(q, id=f"x{q.id}", split="x") for q in QUESTIONS[:40]]
    asked += [dataclasses.replace(q, id=f"y{q.id}", split="y") for q in QUESTIONS[:20]]
    rows = [
        Prediction("base", q.id, q.split, "reasoning", "", 9, True, True, True, "", q.split == "y", True) for q in asked
    ]
    found = summarise(asked, rows, [], PARAMS, seed=7)["base"]
    assert (found["macro"]["sets"], found["macro"]["accuracy"]) == (2, 0.5)
    assert found["macro"]["lenient_accuracy"] == 1.0 and found["macro"]["low"] <= 0.5 <= found["macro"]["high"]
    part = summarise(asked, [row for row in rows if row.split != "y"], [], PARAMS, seed=7)["base"]
    assert part["macro"]["accuracy"] is None  # a benchmark that was not answered is not left out silently
    assert "macro" not in summarise(QUESTIONS, rows[:80], [], PARAMS, seed=7)["base"]


def test_bertscore_is_a_mean_over_what_was_graded():
    rows = predictions("base", lambda i, prompt: True, ("reasoning",))
    graded = {("base", "test", "reasoning", f"test{i}"): 0.5 for i in range(10)}
    found = summarise(QUESTIONS, rows, [], PARAMS, seed=7, graded=graded)["base"]
    assert (found["test"]["bertscore"], found["test"]["bertscore_n"]) == (0.5, 10)
    assert "bertscore" not in found["val"]
