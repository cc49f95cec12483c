"""The Prefect flow for real, on a toy DVC project: parallel, cached, a failure, its mending, Ctrl-C.

One process and one Prefect server for all of it: a server takes some ten seconds to start.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent

PIPELINE = """
stages:
  start:
    cmd: python step.py start
    params: [seed]
    outs: [out/start.txt]
  left:
    cmd: python step.py left
    deps: [out/start.txt]
    outs: [out/left.txt]
  right:
    cmd: python step.py right
    deps: [out/start.txt]
    outs: [out/right.txt]
  join:
    cmd: python step.py join
    deps: [out/left.txt, out/right.txt]
    outs: [out/join.txt]
"""
STEP = """
import os, sys, time
from pathlib import Path

name, begun = sys.argv[1], time.time()
if Path("slow").exists() and Path("slow").read_text() == name:
    Path("sleeping").write_text(str(os.getpid()))
    time.sleep(120)
if Path("broken").exists() and Path("broken").read_text() == name:
    sys.exit("error: broken on purpose")
time.sleep(3 if name in ("left", "right") else 0)
seed = next(line for line in Path("params.yaml").read_text().splitlines() if line.startswith("seed:"))
Path("out").mkdir(exist_ok=True)
Path("out", name + ".txt").write_text(seed + name)
with open("trace", "a") as file:
    print(name, begun, time.time(), os.environ["GRANDROUNDS_THREADS"], file=file)
"""

ANSWER = """
import sys
from pathlib import Path

first, *rest = Path("replies").read_text().split("\\n")
Path("replies").write_text("\\n".join(rest))
if first:
    sys.exit(first)
Path("verdicts").write_text("fine")
"""


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy project in which drive.py has run."""
    root = tmp_path_factory.mktemp("a toy with spaces")
    (root / "dvc.yaml").write_text(PIPELINE)
    (root / "step.py").write_text(STEP)
    (root / "answer.py").write_text(ANSWER)
    (root / "params.yaml").write_text((ROOT / "recipes" / "embedded.yaml").read_text())
    env = {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT_", "DVC_"))}
    env |= {"PYTHONPATH": str(ROOT), "COLUMNS": "120", "DVC_NO_ANALYTICS": "1"}
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "-q"], cwd=root, env=env, check=True)
    drive = [sys.executable, str(ROOT / "tests" / "flows" / "drive.py"), "results"]
    done = subprocess.run(drive, cwd=root, env=env, timeout=400, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return root


@pytest.fixture(scope="module")
def steps(toy: Path) -> dict[str, dict[str, Any]]:
    return {row["step"]: row for row in map(json.loads, (toy / "results").read_text().splitlines())}


@pytest.fixture(scope="module")
def trace(toy: Path) -> list[tuple[str, float, float, int]]:
    rows = [line.split() for line in (toy / "trace").read_text().splitlines()]
    return [(name, float(begun), float(ended), int(threads)) for name, begun, ended, threads in rows]


def test_stages_run_in_order_and_two_at_once(steps: dict, trace: list) -> None:
    first = {name: row for name, *row in trace[:4]}
    assert steps["first"]["fine"] is True and set(first) == {"start", "left", "right", "join"}
    assert first["start"][1] < first["left"][0] and first["join"][0] > max(first["left"][1], first["right"][1])
    assert max(first["left"][0], first["right"][0]) < min(first["left"][1], first["right"][1]), "not at the same time"


def test_a_stage_alone_has_all_cores_and_two_share_them(trace: list) -> None:
    cores = len(os.sched_getaffinity(0))
    threads = {name: count for name, _, _, count in trace[:4]}
    assert threads == {"start": cores, "join": cores, "left": max(1, cores // 2), "right": max(1, cores // 2)}


def test_a_second_run_runs_nothing(steps: dict, trace: list) -> None:
    assert steps["again"]["fine"] is True and "4 more" in steps["again"]["said"]
    assert [name for name, *_ in trace[4:6]] == ["start", "right"], "the next that ran are those of the broken step"


def test_a_failure_names_its_log_and_lets_others_finish(steps: dict, toy: Path) -> None:
    said = steps["broken"]["said"]
    assert steps["broken"]["fine"] is False
    assert "left failed: error: broken on purpose" in said and ".scratch/logs/left.log" in said
    assert "not run: needs left" in said and "right ran" in said
    assert (toy / "out" / "right.txt").read_text() == "seed: 8right"


def test_mended_only_what_was_missing_runs(steps: dict, trace: list) -> None:
    assert steps["mended"]["fine"] is True
    assert [name for name, *_ in trace[6:8]] == ["left", "join"]


def test_a_stage_that_asks_an_api_runs_again_only_when_nobody_answered(steps: dict, toy: Path) -> None:
    fine = {name: steps[name]["fine"] for name in ("retried", "hopeless", "gone")}
    assert fine == {"retried": True, "hopeless": False, "gone": False}
    assert (toy / "left-hopeless").read_text() == "", "a wrong key was tried twice"
    assert (toy / "left-gone").read_text().count("no endpoint") == 1, "three tries, by two delays"


def test_ctrl_c_ends_the_stage_and_leaves_dvc_free(steps: dict, toy: Path) -> None:
    assert steps["interrupted"]["fine"] == "stopped" and steps["interrupted"]["seconds"] < 60
    assert not Path(f"/proc/{(toy / 'sleeping').read_text()}").exists(), "the stage is still running"
    (toy / "slow").unlink()
    command = [sys.executable, "-m", "dvc", "repro"]
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "GRANDROUNDS_THREADS": "1"}
    after = subprocess.run(command, cwd=toy, env=env, timeout=120, capture_output=True, text=True, check=False)
    assert after.returncode == 0, after.stdout + after.stderr
