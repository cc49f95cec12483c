"""The judge stage on small files: what it writes, and which predictions it refuses."""

import dataclasses
import types
from collections import Counter

import pytest

from grandrounds import files
from grandrounds.domain import answers
from grandrounds.engines import replies
from grandrounds.errors import UserError
from grandrounds.records import Prediction, Question, Verdict
from tasks import judge

PROMPTS = ("reasoning", "no_reasoning")
QUESTIONS = [
    Question(f"{split}{i}", "s", split, f"g{i}", "other", "t", "text", "yes_no", "?", [], "yes", "", [], "Fast. Yes.",
             ["Fast"], "yes", "")
    for split in ("val", "test") for i in range(3)
]  # fmt: skip
BASE = {"adapter": "models/base", "title": "Base", "family": "base"}
EXPECTED = Counter({(q.split, q.id, prompt): 1 for q in QUESTIONS for prompt in PROMPTS})


def predict(arm, question, prompt):
    text = "<answer>yes</answer>" if prompt == "no_reasoning" else "<think>Fast. Yes.</think><answer>yes</answer>"
    read = answers.verify(question, text, thinking=prompt == "reasoning")
    return Prediction(arm, question.id, question.split, prompt, text, 5, True, read.extracted, read.format_ok,
                      read.answer, read.correct, read.correct)  # fmt: skip


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for arm in ("base", "stale"):
        files.write(f"data/predictions/{arm}.parquet", rows(arm), Prediction)
    return tmp_path


def rows(arm="base"):
    return [predict(arm, question, prompt) for question in QUESTIONS for prompt in PROMPTS]


def test_every_prediction_gets_every_judges_verdict(project):
    found = judge.read("base", EXPECTED)
    engine = judge.judges.Reference("reference")
    verdicts = judge.judged([engine, judge.judges.Reference("second")], QUESTIONS, found)
    assert len(verdicts) == 2 * len(found) and {v.judge for v in verdicts} == {"reference", "second"}
    assert all(v.prediction_score == 1 for v in verdicts)
    assert {(v.prompt, v.reasoning_score) for v in verdicts} == {("reasoning", 1), ("no_reasoning", None)}
    files.write(judge.VERDICTS, verdicts, Verdict)
    assert files.read(judge.VERDICTS, Verdict) == verdicts


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda found: found[:-1], r"1 of 12 predictions are missing, the first for question 'test2'"),
        (lambda found: [*found, found[3]], r"row 12: question 'val1' \(val, no_reasoning\) is there twice"),
        (lambda found: [dataclasses.replace(found[0], question_id="other"), *found[1:]], r"row 0: question 'other'"),
        (lambda found: [*found[:5], dataclasses.replace(found[5], arm="sft"), *found[6:]], r"row 5: .* by arm 'sft'"),
    ],
)
def test_predictions_of_other_data_are_refused(project, change, message):
    files.write("data/predictions/base.parquet", change(rows()), Prediction)
    with pytest.raises(UserError, match=message) as error:
        judge.read("base", EXPECTED)
    assert str(error.value).startswith("data/predictions/base.parquet: ")
    assert str(error.value).endswith("run `dvc repro predict@base`")


def test_a_whole_run_reads_exactly_the_arms_of_params(project, monkeypatch):
    from contextlib import contextmanager

    from grandrounds.params import Judge, Predict

    for split in ("val", "test"):
        files.write(f"data/curated/{split}.parquet", [q for q in QUESTIONS if q.split == split], Question)
    written = {}

    @contextmanager
    def stage_run(*_, **__):
        yield types.SimpleNamespace(finish=written.update)

    monkeypatch.setattr(judge, "stage_run", stage_run)
    settings = Judge(judges={"reference": {"type": "reference"}}, prompt="p", resamples=200, baselines=("base",))
    predict_section = Predict(splits=("val", "test"), prompts=PROMPTS, arms={"base": BASE})
    judge.main(None, types.SimpleNamespace(predict=predict_section, benchmarks={}, judge=settings, seed=7))
    assert list(written) == ["base"] and written["base"]["test"]["accuracy"] == 1.0
    assert written["base"]["test"]["reasoning"] == 1.0
    assert {row.arm for row in files.read(judge.VERDICTS, Verdict)} == {"base"}


def test_replies_are_kept_with_the_project(project, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", "/somewhere")
    assert str(replies.folder("judge")) == "/somewhere/.cache/judge"
