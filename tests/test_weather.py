"""Bad weather: a full disk, a clock that is set, odd checkouts and folders. One clear line, or it works."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from projects import environment

from grandrounds import comparing, files
from grandrounds.errors import UserError, of_disk
from grandrounds.tracking import stage, verifying, writer
from grandrounds.tracking.git import state

ROOT = Path(__file__).resolve().parents[1]
TASK = """
import os
from grandrounds import files
from grandrounds.tracking.stage import stage_run, task_main

def main(item, params):
    with stage_run("merge", item, params, inputs=[], outputs=["models/merged/experts"]) as run:
        with files.replacing("models/merged/experts") as made:
            made.write_bytes(bytes(400_000))
        if folder := os.environ.get("FILL"):
            with open(f"{folder}/filler", "wb", buffering=0) as filler:
                try:
                    while filler.write(bytes(4096)): pass
                except OSError: pass
        run.finish({"rank": 32})

if __name__ == "__main__":
    task_main("merge", main, items=True)
"""
PIPELINE = """
stages:
  merge:
    foreach: [experts]
    do:
      cmd: python task.py ${item}
      deps: [task.py]
      outs: ["models/merged/${item}", "reports/merge/${item}/run.json"]
"""


def run(*words: str, cwd: Path, **more: str) -> "subprocess.CompletedProcess[str]":
    env = environment(PYTHONPATH=str(ROOT), DVC_NO_ANALYTICS="1", **more)
    return subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True, timeout=240)


def git(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=test", "-c", "user.email=test@localhost")
    done = run("git", *who, *words, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def ours(project: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    return run(sys.executable, "-m", "grandrounds.cli", *words, cwd=project)


def task(project: Path, **more: str) -> "subprocess.CompletedProcess[str]":
    return run(sys.executable, "task.py", "experts", cwd=project, **more)


def toy(folder: Path) -> Path:
    """One stage, our real parameters."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy2(ROOT / "params.yaml", folder)
    (folder / "task.py").write_text(TASK)
    (folder / "dvc.yaml").write_text(PIPELINE)
    return folder


def one_line(done: "subprocess.CompletedProcess[str]", *parts: str) -> None:
    assert done.returncode == 1 and "Traceback" not in done.stderr + done.stdout, done.stderr + done.stdout
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert all(part in line for part in parts), line


def ended(project: Path) -> list[tuple[str, int, int]]:
    with sqlite3.connect(project / ".mlflow/mlflow.db") as database:
        return database.execute("select status, start_time, end_time from runs order by start_time").fetchall()


def mount(folder: Path, size: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if os.geteuid():
        pytest.skip("mounting a small disk needs root")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a small disk")


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 KiB."""
    folder = tmp_path / "small"
    mount(folder, "256k")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize("kind", ["python", "parquet", "torch", "safetensors"])
def test_whatever_fills_the_disk_the_file_is_named_and_the_old_one_stays(small: Path, kind: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq
    import torch
    from safetensors.torch import save_file

    numbers = torch.rand(200_000, generator=torch.Generator().manual_seed(1))
    write = {
        "python": lambda path: path.write_bytes(bytes(800_000)),
        "parquet": lambda path: pq.write_table(pa.table({"x": numbers.numpy()}), path),
        "torch": lambda path: torch.save(numbers, path),
        "safetensors": lambda path: save_file({"x": numbers}, path),
    }[kind]
    (small / "made").write_text("of before")
    with (
        pytest.raises(UserError, match=r"small/made: the disk is full; free some space"),
        files.replacing(small / "made") as path,
    ):
        write(path)
    assert [each.name for each in small.iterdir()] == ["made"] and (small / "made").read_text() == "of before"


def test_other_errors_are_not_called_the_disks(tmp_path: Path) -> None:
    assert of_disk(ValueError("no"), tmp_path) is None and of_disk(FileNotFoundError(2, "no", "x")) is None
    assert of_disk(PermissionError(1, "may not signal")) is None  # of no file
    with pytest.raises(RuntimeError, match="inline_container"), files.replacing(tmp_path / "made"):
        raise RuntimeError("inline_container: on a disk with room, this is something else")


@pytest.mark.parametrize("filled", ["models", "reports"])
def test_a_stage_on_a_disk_that_fills_says_so_and_runs_again(tmp_path: Path, filled: str) -> None:
    project = toy(tmp_path / "project")
    disk = project / filled
    mount(disk, "256k")
    try:
        one_line(task(project, FILL=filled), f"{filled}/", "the disk is full")
        assert not list(disk.rglob("*.tmp")) and not (project / "reports/merge/experts/run.json").exists()
        assert [status for status, *_ in ended(project)] in (["FAILED"], ["KILLED"])
        subprocess.run(["mount", "-o", "remount,size=4m", disk], check=True)
        assert task(project).returncode == 0
        assert (project / "models/merged/experts").stat().st_size == 400_000
        assert [status for status, *_ in ended(project)][-1] == "FINISHED"
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


@pytest.mark.slow
def test_a_cache_that_fills_is_named_by_the_flow_and_the_stage_runs_again(tmp_path: Path) -> None:
    project = toy(tmp_path / "project")
    assert run(sys.executable, "-m", "dvc", "init", "-q", "--no-scm", cwd=project).returncode == 0
    cache = project / ".dvc/cache"
    mount(cache, "256k")
    try:
        done = ours(project, "run")
        assert done.returncode == 1 and "No space left on device" in done.stdout + done.stderr, done.stdout
        assert "Traceback" not in done.stdout + done.stderr and not (project / "dvc.lock").exists()
        subprocess.run(["mount", "-o", "remount,size=4m", cache], check=True)
        again = ours(project, "run")
        assert again.returncode == 0, again.stdout + again.stderr
        assert "nothing to run" in ours(project, "run").stdout
    finally:
        subprocess.run(["umount", "-l", cache], check=True)


@pytest.mark.parametrize("jump", [-86_400.0, 86_400.0])
def test_a_clock_that_is_set_during_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump: float) -> None:
    from grandrounds.params import load

    monkeypatch.chdir(toy(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/.mlflow/mlflow.db")
    right, begin = time.time, writer.now()
    with stage.stage_run("merge", "experts", load(), inputs=[], outputs=["models/merged/experts"]) as one:
        monkeypatch.setattr(time, "time", lambda: right() + jump)
        one.curve(1, loss=0.5)
        one.finish({"rank": 32})
    told = json.loads(Path("reports/merge/experts/run.json").read_text())
    ((status, start, end),) = ended(tmp_path)
    assert 0 <= told["seconds"] < 100 and status == "FINISHED"
    assert begin <= start <= end <= begin + 100_000


def test_a_dirty_tree_a_shallow_clone_and_no_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    far = toy(tmp_path / "far")
    git(far, "init", "-q")
    for number in range(2):
        (far / "task.py").write_text(f"{TASK}# {number}\n")
        git(far, "add", "-A")
        git(far, "commit", "-qm", str(number))
    near = tmp_path / "near"
    git(tmp_path, "clone", "-q", "--depth", "1", far.as_uri(), "near")
    one_line(ours(near, "compare", "HEAD~1", "workspace"), "HEAD~1", "shallow clone", "git fetch --unshallow")
    (near / "task.py").write_text(TASK)
    assert task(near).returncode == 0
    told = json.loads((near / "reports/merge/experts/run.json").read_text())
    assert told["git"]["dirty"] and told["git"]["commit"] == git(near, "rev-parse", "HEAD").strip()
    one_line(ours(near, "lineage", "grandrounds@champion"), "grandrounds")
    first = git(far, "rev-parse", "HEAD~1").strip()
    left_out = verifying._code("gone.py", "0" * 32, first, near, {})
    assert left_out.where == f"this clone does not have commit {first[:7]} (`git fetch --unshallow`)"
    git(near, "fetch", "-q", "--unshallow")
    assert "neither here nor in commit" in verifying._code("gone.py", "0" * 32, first, near, {}).where
    assert ours(near, "compare", "HEAD~1", "workspace").returncode == 0
    bare = toy(tmp_path / "bare")
    one_line(ours(bare, "compare", "HEAD~1", "workspace"), "no run of this project")
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert state() == {"commit": "", "dirty": False}
    with pytest.raises(UserError, match="git is not installed"):
        comparing.resolve("HEAD~1", bare)


def test_a_path_with_spaces_and_letters_of_many_scripts(tmp_path: Path) -> None:
    project = toy(tmp_path / "größe 中 x")
    dvc = (sys.executable, "-m", "dvc")
    assert run(*dvc, "init", "-q", "--no-scm", cwd=project).returncode == 0
    planned = ours(project, "plan")
    assert planned.returncode == 0 and "merge@experts" in planned.stdout, planned.stderr
    done = run(*dvc, "repro", cwd=project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [status for status, *_ in ended(project)] == ["FINISHED"]
    assert json.loads((project / "reports/merge/experts/run.json").read_text())["mlflow_run_id"]


def test_a_checkout_that_cannot_be_written_to(tmp_path: Path) -> None:
    project = toy(tmp_path / "project")
    assert run(sys.executable, "-m", "dvc", "init", "-q", "--no-scm", cwd=project).returncode == 0
    if subprocess.run(["mount", "--bind", project, project], capture_output=True).returncode:
        pytest.skip("mounting a folder read-only needs root, and a machine that allows it")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", project], check=True)
        one_line(task(project), "models", "read-only file system", "work in a copy")
        one_line(ours(project, "run"), str(project), "read-only file system")
        one_line(ours(project, "plan"), str(project), "read-only file system")
        assert sorted(each.name for each in project.iterdir() if each.name[0] != ".") == [
            "dvc.yaml", "params.yaml", "task.py"
        ]  # fmt: skip
    finally:
        subprocess.run(["umount", "-l", project], check=True)
