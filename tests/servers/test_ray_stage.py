"""A whole `filter` on Ray: the same file as without, also over a cluster that loses a node, and after Ctrl-C."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from processes import Process, free_port
from projects import copied, dvc, environment

pytestmark = pytest.mark.slow
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "5ecre7" * 10}  # what Ray's clusters ask for
OUTPUT = Path("data/filtered/text.parquet")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reduced pipeline as far as `filter`, with many short samples, drawn by one engine in the stage itself."""
    pytest.importorskip("ray")
    folder = copied(tmp_path_factory.mktemp("filter on ray"))
    change(folder, n=24, stopping={"type": "full"}, keep={"min": 0, "max": 24})
    dvc(folder, "repro", "filter@text")
    return folder


def change(folder: Path, **values: Any) -> None:
    path = folder / "params.yaml"
    params = yaml.safe_load(path.read_text(encoding="utf-8"))
    params["filter"] |= values
    path.write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")


def on_ray(folder: Path, **settings: Any) -> None:
    change(folder, engine={"type": "ray", "gpus": 0, "actors": 2, "deal": 16, **settings})


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def taken(folder: Path) -> str:
    """The md5 of the output, which is removed, so that only a stage that writes it has it again."""
    found = md5(folder / OUTPUT)
    (folder / OUTPUT).unlink()
    return found


def started(folder: Path, log: Path, **more: str) -> "subprocess.Popen[bytes]":
    """The stage as from a terminal, in a process group of its own."""
    with log.open("wb") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "tasks.filter", "text"], cwd=folder, env=environment(**more), stdout=out, stderr=out,
            start_new_session=True,
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
        )  # fmt: skip


def kept(folder: Path) -> int:
    """Completions that are on disk."""
    files = (folder / ".scratch/samples").rglob("*.jsonl")
    return sum(bool(line.strip()) for path in files for line in path.read_bytes().splitlines())


def until_some_are_kept(folder: Path, stage: "subprocess.Popen[bytes]", log: Path) -> None:
    end = time.monotonic() + 180
    while not kept(folder):
        assert stage.poll() is None and time.monotonic() < end, log.read_text()[-3000:]
        time.sleep(0.02)


def test_dvc_repro_on_ray_gives_the_same_file(project: Path) -> None:
    before = md5(project / OUTPUT)
    on_ray(project)
    told, _ = dvc(project, "repro", "-s", "filter@text")
    assert "filter text" in told and md5(project / OUTPUT) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C to the group", "SIGTERM to the stage"])
def test_an_interrupted_stage_leaves_no_actor_and_goes_on(
    project: Path, tmp_path: Path, number: signal.Signals
) -> None:
    before = taken(project)
    on_ray(project)
    log = tmp_path / "log"
    stage = started(project, log)
    until_some_are_kept(project, stage, log)
    family = psutil.Process(stage.pid).children(recursive=True)
    assert any("raylet" in each.name() for each in family)
    (os.killpg if number == signal.SIGINT else os.kill)(stage.pid, number)
    assert stage.wait(60) == 130
    _, alive = psutil.wait_procs(family, timeout=30)
    assert not alive, [each.cmdline() for each in alive]
    said = log.read_text()
    assert "interrupted; `dvc repro` goes on from here" in said and "Traceback" not in said
    assert kept(project)
    again = started(project, log)
    assert again.wait(240) == 0, log.read_text()[-3000:]
    assert md5(project / OUTPUT) == before


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[str, Process]]:
    """Two nodes on this machine, each with room for one actor: the address of the first, and the second."""
    port = free_port()
    folder = Path(tempfile.mkdtemp(prefix="gr-ray-", dir="/tmp"))  # a socket's path has 107 characters at most
    ray = str(Path(sys.executable).parent / "ray")
    common = ["--block", "--num-cpus=1", "--disable-usage-stats", f"--object-store-memory={128 * 2**20}"]
    head = Process(
        [ray, "start", "--head", f"--port={port}", f"--temp-dir={folder}", "--include-dashboard=false", *common],
        tmp_path / "head.log", environment(**TOKEN),
    )  # fmt: skip
    nodes = [head]
    try:
        head.wait_for(lambda: "Ray runtime started" in head.log.read_text())
        command = [ray, "start", f"--address=127.0.0.1:{port}", *common]
        nodes.append(second := Process(command, tmp_path / "second.log", environment(**TOKEN)))
        second.wait_for(lambda: "Ray runtime started" in second.log.read_text())
        yield f"127.0.0.1:{port}", second
    finally:
        for node in reversed(nodes):
            end_node(node)
        shutil.rmtree(folder, ignore_errors=True)


def end_node(node: Process) -> None:
    """With kill -9: the command and all that it started, its actors too."""
    if node.running.poll() is None:
        family = psutil.Process(node.running.pid).children(recursive=True)
        for each in family:
            each.kill()
        node.kill()
        psutil.wait_procs(family, timeout=10)


def test_a_cluster_that_loses_a_node_gives_the_same_file(
    project: Path, tmp_path: Path, cluster: tuple[str, Process]
) -> None:
    address, second = cluster
    before = taken(project)
    on_ray(project, address=address)
    log = tmp_path / "log"
    stranger = started(project, log, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="0ther" * 12)
    assert stranger.wait(120) == 1
    (line,) = [line for line in log.read_text().splitlines() if line.startswith("error:")]
    assert line.startswith(f"error: filter.engine.address: Ray at {address} cannot be joined: ")
    assert line.endswith("RAY_AUTH_MODE and the token here are those of the cluster") and "0ther" not in line
    stage = started(project, log, **TOKEN)
    until_some_are_kept(project, stage, log)
    end_node(second)
    assert stage.wait(300) == 0, log.read_text()[-3000:]
    assert md5(project / OUTPUT) == before
    assert TOKEN["RAY_AUTH_TOKEN"] not in log.read_text()
    assert "an actor was lost over" in log.read_text()
