"""Two real revisions of a small project under Git and DVC, compared."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from scipy.stats import norm
from typer.testing import CliRunner

from grandrounds import comparing, files
from grandrounds.cli import app
from grandrounds.errors import UserError
from grandrounds.records import Prediction, Question

RUN_ID = "0123456789abcdef0123456789abcdef"
DVC_YAML = """
stages:
  curate:
    cmd: mkdir -p data/curated && cp from/test.parquet data/curated
    deps: [from/test.parquet]
    outs: [data/curated/test.parquet]
  predict:
    cmd: mkdir -p data/predictions && cp from/base.parquet data/predictions
    deps: [from/base.parquet]
    outs: [data/predictions/base.parquet]
"""
QUESTIONS = [
    Question(
        f"q{i}", "own", "test", f"g{i // 2}", "other", "t", "text", "yes_no", "?", [], "yes", "", [], "", [], "", ""
    )
    for i in range(80)
]


def step(folder: Path, right: range, learning_rate: float) -> None:
    """One whole run: parameters, predictions, scores, all committed."""
    rows = [Prediction("base", q.id, "test", "reasoning", "c", 1, True, True, True, "yes", int(q.id[1:]) in right, True)
            for q in QUESTIONS]  # fmt: skip
    files.write(folder / "from/base.parquet", rows, Prediction)
    (folder / "params.yaml").write_text(f"seed: 7\nadapt: {{learning_rate: {learning_rate}, steps: 10}}\n")
    scores = {"base": {"test": {"accuracy": len(right) / 80}, "test_no_reasoning": {"accuracy": 0.1}}}
    files.write_json(folder / comparing.SCORES, scores)
    call(folder, "dvc", "repro", "-q")
    call(folder, "git", "add", "-A")
    call(folder, "git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "run")


def call(folder: Path, *words: str) -> None:
    quiet = {**os.environ, "DVC_NO_ANALYTICS": "1", "DVC_STUDIO_OFFLINE": "1"}
    subprocess.run(words, cwd=folder, check=True, capture_output=True, env=quiet)


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("compared")
    call(folder, "git", "init", "-q")
    call(folder, "dvc", "init", "-q")
    (folder / "dvc.yaml").write_text(DVC_YAML)
    files.write(folder / "from/test.parquet", QUESTIONS, Question)
    step(folder, range(40), 0.001)
    call(folder, "git", "tag", "first")
    files.write_json(folder / "reports/judge/run.json", {"mlflow_run_id": RUN_ID})
    step(folder, range(60), 0.002)
    call(folder, "git", "update-ref", "refs/exps/ab/cdef/bold-crow", "HEAD")
    files.write_json(folder / "reports/judge/run.json", {"mlflow_run_id": ""})
    return folder


def run(project: Path, monkeypatch, *words: str) -> tuple[int, str]:
    monkeypatch.setattr("grandrounds.cli.root", lambda: project)
    monkeypatch.chdir(project)
    told = CliRunner().invoke(app, ["compare", *words], catch_exceptions=False)
    return told.exit_code, told.output


def test_what_changed_and_what_came_of_it(project, monkeypatch):
    code, text = run(project, monkeypatch, "first", "HEAD", "--json")
    found = json.loads(text)
    assert code == 0 and found["outputs"] == 2
    assert [each["name"] for each in found["differing_outputs"]] == ["data/predictions/base.parquet"]
    assert found["params"] == [{"name": "adapt.learning_rate", "first": "0.001", "second": "0.002"}]
    assert [each["name"] for each in found["inputs"]] == ["from/base.parquet"]
    [change] = found["accuracy"]  # from DVC's cache: the folder holds only the second run's predictions
    assert (change["first"], change["second"], change["n"], change["groups"]) == (0.5, 0.75, 80, 40)
    wide = norm.ppf(0.975) * (0.25 * 0.75 / 40) ** 0.5  # 10 of 40 groups of two turned right, whole
    assert change["low"] == pytest.approx(0.25 - wide, abs=0.02) and change["high"] == pytest.approx(
        0.25 + wide, abs=0.02
    )
    assert change["verdict"] == "better"


def test_outputs_alone_give_an_exit_code(project, monkeypatch):
    assert run(project, monkeypatch, "HEAD", "workspace", "--outputs") == (0, "2 outputs, 0 differ\n")
    code, text = run(project, monkeypatch, "first", "--outputs")
    assert code == 1 and "data/predictions/base.parquet: " in text and text.endswith("2 outputs, 1 differ\n")


@pytest.mark.parametrize("name", ["bold-crow", RUN_ID, "HEAD"])
def test_a_run_is_found_by_experiment_run_id_or_revision(project, name):
    head = comparing.resolve("HEAD", project).commit
    assert comparing.resolve(name, project).commit == head


def test_the_table_says_what_is_better(project, monkeypatch):
    code, text = run(project, monkeypatch, "first", "bold-crow")
    assert code == 0 and "+25.0 [" in text and "better" in text and "adapt.learning_rate" in text


def test_without_predictions_there_is_no_verdict(project, monkeypatch):
    monkeypatch.setattr(comparing.Revision, "columns", lambda *_: None)
    runs = [comparing.resolve(name, project) for name in ("first", "HEAD")]
    [change] = comparing.changes(*runs, seed=7)
    assert change.low is None and change.verdict == "no interval: predictions not at hand"


def test_few_groups_are_no_verdict():
    few = comparing.Change("a", "test", 0.1, 0.9, 0.8, 0.6, 0.9, 28, 14, 0.001, "too few clusters")
    assert few.verdict == "too few clusters"
    assert comparing.Change("a", "test", 0.1, None).verdict == "in one run only"


@pytest.mark.parametrize("name", ["nothing-like-it", "-x", "f" * 32])
def test_an_unknown_run_is_one_line(project, name):
    with pytest.raises(UserError, match="no run of this project; give a Git revision"):
        comparing.resolve(name, project)
