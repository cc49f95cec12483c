import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from grandrounds.errors import UserError
from grandrounds.tracking import stage
from grandrounds.tracking.stage import flat, numbers, sections, stage_run, task_main

REPOSITORY = Path(__file__).parents[2]
TASK = """
import time
from grandrounds.tracking.stage import stage_run, task_main

def main(item, params):
    with stage_run("merge", item, params, inputs=["in.txt"], outputs=["models/merged/experts"]) as run:
        for step in range(3):
            run.curve(step, loss=1 / (step + 1))
        open("working", "w").close()
        time.sleep({sleep})
        run.finish({{"rank": 32}})

if __name__ == "__main__":
    task_main("merge", main, items=True)
"""


class Fake:
    """Stands for the writer process; remembers what it was told."""

    def __init__(self, start: dict[str, Any]) -> None:
        self.run_id, self.problem = "a" * 32, ""
        self.told: list[tuple[str, dict[str, Any]]] = [("start", start)]
        self.status = ""
        Fake.last = self

    def send(self, kind: str, **body: Any) -> None:
        self.told.append((kind, body))

    def close(self, status: str) -> None:
        self.status = status

    last: "Fake"


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[Fake]:
    monkeypatch.setattr(stage, "Writer", Fake)
    return Fake


def test_a_summary_is_what_mlflow_shows_over_a_curve_of_its_name(project: Any, fake: type[Fake]) -> None:
    with stage_run("judge", None, project.params, inputs=[], outputs=["data/verdicts.parquet"]) as run:
        run.curve(0, share=0.5)
        run.curve(5, share=0.75)
        run.finish({"share": 0.625})
    rows = [row for kind, body in fake.last.told if kind == "metrics" for row in body["rows"]]
    _, shown, _, _ = max((row for row in rows if row[0] == "share"), key=lambda row: (row[3], row[2], row[1]))
    assert shown == 0.625


def test_what_a_finished_stage_leaves(project: Any, fake: type[Fake], capsys: pytest.CaptureFixture[str]) -> None:
    project.write("data/predictions/base.parquet", "b")
    project.write("data/predictions/sft.parquet", "s")
    project.stage("predict@base", [], {"data/predictions/base.parquet": "b"})
    project.stage("predict@sft", [], {"data/predictions/sft.parquet": "s"})
    with stage_run(
        "judge", None, project.params, inputs=["data/predictions"], outputs=["data/verdicts.parquet"]
    ) as run:
        run.curve(1, loss=0.5, **{"rewards/format": 1.0})
        run.curve(2, loss=float("nan"), kl=0.1)
        run.finish({"sft": {"val": {"accuracy": 0.5, "low": None}}, "arms": ["sft"]})
        assert run.parameters["judge"]["resamples"] == 2000
    record = json.loads(Path("reports/judge/run.json").read_text())
    assert [each["path"] for each in record["inputs"]] == [
        "data/predictions/base.parquet",
        "data/predictions/sft.parquet",
    ]
    assert record["inputs"][0]["md5"] == project.md5("data/predictions/base.parquet")
    assert (record["mlflow_run_id"], record["metrics"]) == ("a" * 32, {"sft.val.accuracy": 0.5})
    assert {"seconds", "peak_mib", "seed", "versions", "git", "threads", "device", "started"} <= record.keys()
    assert Path("reports/judge/curves.csv").read_text() == "step,loss,rewards/format,kl\n1,0.5,1.0,\n2,nan,,0.1\n"
    assert json.loads(Path("reports/judge/metrics.json").read_text())["arms"] == ["sft"]
    sent = [row[0] for kind, body in fake.last.told if kind == "metrics" for row in body["rows"]]
    assert sent == ["loss", "rewards/format", "kl", "sft.val.accuracy"]  # nan is a gap
    assert fake.last.status == "FINISHED"
    assert capsys.readouterr().out.splitlines()[0].endswith("] judge")


@pytest.mark.parametrize(("error", "status"), [(ValueError("no"), "FAILED"), (KeyboardInterrupt(), "KILLED")])
def test_a_stage_that_stops_leaves_no_record(project: Any, fake: type[Fake], error: BaseException, status: str) -> None:
    with pytest.raises(type(error)), stage_run("judge", None, project.params, inputs=[], outputs=[]) as run:
        run.curve(1, loss=0.5)
        raise error
    assert fake.last.status == status and fake.last.told[-1][0] == "metrics"  # the curve shows where it stopped
    assert not Path("reports/judge/run.json").exists() and not Path("reports/judge/curves.csv").exists()


def test_missing_input_is_named_before_anything_starts(project: Any, fake: type[Fake]) -> None:
    Fake.last = None  # type: ignore[assignment]
    with (
        pytest.raises(UserError, match=r"models/base: missing; run `dvc checkout models/base`"),
        stage_run("judge", None, project.params, inputs=["models/base"], outputs=[]),
    ):
        pytest.fail("the body ran")
    assert Fake.last is None


def test_sections_hold_what_the_result_depends_on(project: Any) -> None:
    found = flat(sections("grpo", "rarl", project.params))
    assert found["grpo.items.rarl.steps"] == project.params.grpo.items["rarl"].steps and found["seed"] == 7
    assert not [key for key in found if "medvlthinker" in key or key.startswith("adapt")]


def test_metric_names_that_mlflow_refuses() -> None:
    assert numbers({"a@b": {"brain & senses": 1}, "x": float("inf"), "t": "text", "n": None}) == {
        "a_b.brain _ senses": 1.0
    }


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["expert"], "params.yaml: merge.items: unknown merge item 'expert': did you mean 'experts'?"),
        ([], "usage: python -m tasks.merge <item>; items are experts, unified"),
    ],
)
def test_wrong_item_is_one_line(
    project: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], given: list[str], message: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["merge", *given])
    with pytest.raises(SystemExit) as caught:
        task_main("merge", lambda item, params: pytest.fail("the body ran"), items=True)
    shown = capsys.readouterr().err
    assert caught.value.code == 1 and shown.startswith(f"error: {message}") and shown.count("\n") == 1


def _start(folder: Path, project: Any, environment: dict[str, str], sleep: float = 0) -> Any:
    """A real stage process in a folder of its own."""
    (folder / "tasks").mkdir(parents=True)
    (folder / "tasks/__init__.py").touch()
    (folder / "tasks/merge.py").write_text(TASK.format(sleep=sleep))
    (folder / "in.txt").write_text("in")
    (folder / "params.yaml").write_text((project.root / "params.yaml").read_text())
    variables = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{REPOSITORY}", "OMP_NUM_THREADS": "1", **environment}
    command = [sys.executable, "-m", "tasks.merge", "experts"]
    return subprocess.Popen(
        command, cwd=folder, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def _statuses(database: Path, wanted: int) -> list[str]:
    """Of all runs; waits for the writer of a stage that was killed."""
    for _ in range(300):
        if database.is_file():
            with sqlite3.connect(database) as connection:
                try:
                    found = [row[0] for row in connection.execute("select status from runs")]
                except sqlite3.OperationalError:  # no tables yet
                    found = []
            if len(found) == wanted and "RUNNING" not in found:
                return sorted(found)
        time.sleep(0.1)
    raise AssertionError(f"{wanted} runs were awaited, there are {found}")


def test_processes_that_start_at_once_on_no_database(project: Any, tmp_path: Path) -> None:
    """Each works in its own folder and writes to the one database of the project; each ends in its own way."""
    (tmp_path / ".mlflow/mlflow.db").unlink()
    shared = {"DVC_ROOT": str(tmp_path), "GRANDROUNDS_PARENT_RUN": "f" * 32}
    processes = {
        "fine": _start(tmp_path / "fine", project, shared),
        "also_fine": _start(tmp_path / "also_fine", project, shared),
        "terminated": _start(tmp_path / "terminated", project, shared, sleep=60),
        "killed": _start(tmp_path / "killed", project, shared, sleep=60),
        "lost": _start(tmp_path / "lost", project, {**shared, "MLFLOW_TRACKING_URI": "sqlite:////proc/none/mlflow.db"}),
    }
    for name, number in (("terminated", signal.SIGTERM), ("killed", signal.SIGKILL)):
        while not (tmp_path / name / "working").exists():
            time.sleep(0.05)
        processes[name].send_signal(number)
    said = {name: process.communicate(timeout=120) for name, process in processes.items()}
    assert [process.returncode for process in processes.values()] == [0, 0, 130, -signal.SIGKILL, 0], said
    assert _statuses(tmp_path / ".mlflow/mlflow.db", 4) == ["FINISHED", "FINISHED", "KILLED", "KILLED"]
    written = [name for name in processes if (tmp_path / name / "reports/merge/experts/run.json").exists()]
    assert written == ["fine", "also_fine", "lost"]
    assert "interrupted" in said["terminated"][1]
    # training that no tracking server heard of is kept, and said so
    assert "warning: MLflow at sqlite:////proc/none/mlflow.db" in said["lost"][0]
    assert json.loads((tmp_path / "lost/reports/merge/experts/run.json").read_text())["mlflow_run_id"] == ""
    with sqlite3.connect(tmp_path / ".mlflow/mlflow.db") as connection:
        parents = connection.execute("select value from tags where key = 'mlflow.parentRunId'").fetchall()
        kept = connection.execute("select count(*) from metrics where key = 'loss'").fetchone()
    assert parents == [("f" * 32,)] * 4 and kept[0] >= 6
