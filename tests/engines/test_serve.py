"""A real server: `transformers serve` on loopback, with the tiny model, a local folder and no hub."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from loopback import PROXIES

from grandrounds import files
from grandrounds.domain import prompts
from grandrounds.engines import chat, judges
from grandrounds.engines.protocol import Request
from grandrounds.engines.remote import RemoteEngine
from grandrounds.params import OpenAIEngine, Sampling, check
from grandrounds.records import Difficulty, Prediction, Question, Verdict
from tasks import distill, judge
from tasks import filter as filtering

SERVE = "from transformers.cli.transformers import main; main()"
PATIENCE = 120  # seconds until it answers: it imports torch on a machine that may be busy


@pytest.fixture(scope="module")
def served(tiny, tmp_path_factory):
    """Settings of an engine that asks it."""
    folder = tmp_path_factory.mktemp("serve")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", SERVE, "serve", str(tiny.folder), "--host", "127.0.0.1", "--port", str(port),
               "--device", "cpu"]  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if name not in PROXIES}
    environment |= {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1"}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    try:
        until = time.monotonic() + PATIENCE
        while not healthy(port):
            if process.poll() is not None or time.monotonic() > until:
                pytest.fail(f"transformers serve did not start: {(folder / 'log').read_text()[-1500:]}")
            time.sleep(0.2)
        yield OpenAIEngine(type="openai", model=str(tiny.folder), endpoints=[f"http://127.0.0.1:{port}/v1"],
                           concurrency=4, timeout=60)  # fmt: skip
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()


def healthy(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as reply:
            return reply.status == 200
    except (urllib.error.URLError, OSError):
        return False


@pytest.fixture
def project(tiny, tmp_path, monkeypatch):
    """A project folder whose three questions are the training split and the test split."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    (tmp_path / "params.yaml").write_text("")
    (tmp_path / "data/curated").mkdir(parents=True)
    (tmp_path / "data/curated/images").symlink_to(tiny.images)
    (tmp_path / "models/base").mkdir(parents=True)
    (tmp_path / "models/teacher").mkdir()
    (tmp_path / "data/curated/benchmarks").mkdir()
    questions = [each for each in tiny.questions if each.modality == "text"][:3]
    files.write("data/curated/train.parquet", questions, Question)
    files.write("data/curated/test.parquet", [replace(each, split="test") for each in questions], Question)
    return questions


def settings(served, **changes):
    raw = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text(encoding="utf-8"))
    for key, value in changes.items():
        raw[key] |= value
    return check(raw)


def test_filter_and_distill_through_it_are_whole_stages(served, keyed, project):
    few = {"engine": served.model_dump(), "n": 2, "keep": {"min": 0, "max": 1}, "sampling": {"max_new_tokens": 4}}
    filtering.main("text", settings(served, filter=few))
    rows = files.read("data/filtered/text.parquet", Difficulty)
    assert [(row.question_id, row.n, row.correct, row.kept) for row in rows] == [
        (each.id, 2, 0, True) for each in project
    ]  # an untrained model: nothing extracted, and the bounds keep what never passes
    teacher = {"teacher": served.model_dump(), "n": 2, "questions": "train", "sampling": {"max_new_tokens": 4}}
    files.write("data/filtered/image_text.parquet", [], Difficulty)
    distill.main(None, settings(served, distill=teacher))
    said = json.loads(Path("reports/distill/metrics.json").read_text())
    assert said["accepted"] == 0 and said["rejected"] == {"never_read": 3} and 0 < said["mean_tokens"] <= 4


def test_judge_through_it_is_a_whole_stage(served, keyed, project, monkeypatch):
    monkeypatch.setattr(chat, "LONGEST_WAIT", 0.05)
    rows = [
        Prediction("base", each.id, "test", "reasoning", "<think>x</think><answer>y</answer>", 5, True, True, True, "y",
                   False, False)
        for each in project
    ]  # fmt: skip
    files.write("data/predictions/base.parquet", rows, Prediction)
    arms = {"base": {"adapter": "models/base", "title": "Base", "family": "base"}}
    asked = {"splits": ["test"], "prompts": ["reasoning"], "arms": arms}
    by = {"judges": {"served": served.model_dump()}, "baselines": ["base"], "resamples": 200}
    judge.main(None, settings(served, predict=asked, judge=by))
    verdicts = files.read("data/verdicts.parquet", Verdict)
    assert len(verdicts) == 3 and all(each.evaluation.startswith("unscored: ") for each in verdicts)
    assert json.loads(Path("reports/judge/metrics.json").read_text())["base"]["test"]["accuracy"] == 0


@pytest.mark.parametrize("modality", ["text", "image_text"])
@pytest.mark.parametrize("form", ["reasoning", "explanation"])
def test_a_filter_like_list_is_sampled(served, tiny, keyed, tmp_path, modality, form):
    asked = prompts.COMPACT[form]
    questions = [each for each in tiny.questions if each.modality == modality][:3]
    requests = [Request(f"{each.id}/{i}", each, asked, i) for each in questions for i in range(2)]
    engine = RemoteEngine(served, tiny.images, 7, tmp_path)
    found = list(engine.generate(requests, Sampling(max_new_tokens=8)))
    assert sorted(each.id for each in found) == sorted(each.id for each in requests)
    assert all(not each.problem and 1 <= each.tokens <= 8 and each.text.startswith(asked.prefill) for each in found)
    assert len({each.text for each in found}) > 1
    # a picture is 16 visual tokens of the prompt, beside its question
    assert engine.spent.answered == 6 and engine.spent.prompt_tokens > 6 * (16 if modality == "image_text" else 4)


def test_a_judge_like_list_is_unscored_with_the_reason(served, tiny, keyed, tmp_path, monkeypatch):
    """A model that was never trained says no JSON, and at the repair its own noise is read as pictures: HTTP 500."""
    monkeypatch.setattr(chat, "LONGEST_WAIT", 0.05)
    cases = [
        (each, Prediction("base", each.id, "test", "no_reasoning", "<answer>yes</answer>", 5, True, True, True, "yes",
                          True, True))
        for each in tiny.questions[:2]
    ]  # fmt: skip
    judge = judges.make("llm", served, "GRADE", tmp_path)
    verdicts = judge.judge(cases)
    assert len(verdicts) == 2
    assert all(each.prediction_score is None and each.evaluation.startswith("unscored: ") for each in verdicts)
