"""Process groups: all children end; logs are read as a person would."""

import os
import sys
import threading
import time
from pathlib import Path

import pytest

from flows import processes
from flows.processes import Groups

PARENT = """
import subprocess, sys, signal
for number in {ignored}: signal.signal(number, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
child.wait()
"""


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads Linux's /proc")
@pytest.mark.parametrize("ignored", ["()", "(signal.SIGINT, signal.SIGTERM)"], ids=["gentle", "stubborn"])
def test_stop_ends_the_children_too(tmp_path: Path, ignored: str) -> None:
    groups, log = Groups(), tmp_path / "logs" / "a.log"
    command = [sys.executable, "-c", PARENT.format(ignored=ignored)]
    codes: list[int] = []
    run = lambda: codes.append(groups.run(command, log, cwd=tmp_path, env=dict(os.environ)))  # noqa: E731
    thread = threading.Thread(target=run)
    thread.start()
    end = time.monotonic() + 30
    while not (log.exists() and log.read_text().strip()) and time.monotonic() < end:
        time.sleep(0.02)
    child = int(log.read_text())
    assert alive(child)
    steps = [(number, 0.3 if number != processes.GENTLE[-1][0] else 5.0) for number, _ in processes.GENTLE]
    groups.stop(steps)
    thread.join(10)
    assert codes and codes[0] != 0 and not alive(child)
    assert groups.run([sys.executable, "-c", ""], log, cwd=tmp_path, env={}) != 0, "nothing starts after a stop"


@pytest.mark.parametrize(
    ("code", "text", "told"),
    [
        (0, "Stage 'a' didn't change, skipping\n", "unchanged"),
        (0, "Stage 'a' is cached - skipping run, checking out outputs\n", "restored"),
        (0, "Running stage 'a':\n> python -m tasks.a\nStage 'b' didn't change, skipping\n", "ran"),
        (255, "Stage 'a' didn't change, skipping\n", "failed"),
    ],
)
def test_outcome(tmp_path: Path, code: int, text: str, told: str) -> None:
    log = tmp_path / "a.log"
    log.write_text(text)
    assert processes.outcome(code, "a", log) == told


def test_last_line_is_what_a_terminal_would_show(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    assert processes.last_line(log) == ""
    log.write_text("one\n  10%\r  90% of it\n\n \n")
    assert processes.last_line(log) == "90% of it"


def test_cause_prefers_our_own_error_line(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    assert processes.cause(log) == "it did not start"
    log.write_text("Traceback\nValueError: x\nERROR: failed to reproduce 'a': failed to run\n")
    assert processes.cause(log) == "ValueError: x"
    full = "ERROR: failed to reproduce 'a': [Errno 28] No space left on device"  # DVC's cache, after the stage
    log.write_text(f"  done in 2.0 s\n{full}\n")
    assert processes.cause(log) == full
    log.write_text("error: data/a.parquet: missing\nmore\nERROR: failed to reproduce 'a'\n")
    assert processes.cause(log) == "error: data/a.parquet: missing"


def test_a_stage_sees_its_threads_and_this_python_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/elsewhere")
    env = processes.stage_environment(3)
    assert env["GRANDROUNDS_THREADS"] == "3"
    assert env["PATH"].split(os.pathsep) == [str(Path(sys.executable).parent), "/elsewhere"]
    assert processes.dvc_command("a", force=True)[2:] == ["dvc", "--wait-for-lock", "repro", "-f", "-s", "a"]
