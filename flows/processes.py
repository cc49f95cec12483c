"""One DVC stage as a process group of its own, with its output in a log; and ending all such groups."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from flows.settings import SCRATCH

UNCHANGED = "Stage '{stage}' didn't change, skipping"  # what `dvc repro` prints
RESTORED = "Stage '{stage}' is cached - skipping run"
HARD = ((signal.SIGKILL, 5.0),)
GENTLE = ((signal.SIGINT, 5.0), (signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0))
_SAYS_NOTHING = re.compile(r"ERROR: failed to reproduce [^:]*(: failed to run\b.*)?$|Having any troubles\?")


class Groups:
    """The process groups that are alive, so that Ctrl-C can end each with all its children."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._alive: dict[int, subprocess.Popen[bytes]] = {}
        self.stopping = False

    def run(self, command: Sequence[str], log: Path, *, cwd: Path, env: dict[str, str]) -> int:
        """Run a command to its end, its output in `log`; its exit code, negative for a signal."""
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as out:
            with self._lock:
                if self.stopping:
                    return -signal.SIGTERM
                process = subprocess.Popen(
                    command,
                    cwd=cwd,
                    env=env,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
                self._alive[process.pid] = process
            try:
                return process.wait()
            finally:
                if process.returncode is not None:  # else we were interrupted, and `stop` has to find it
                    with self._lock:
                        self._alive.pop(process.pid, None)

    def stop(self, steps: Sequence[tuple[signal.Signals, float]] = GENTLE) -> None:
        """End every group and start no other. First as Ctrl-C does, which lets DVC put its lock file in order,
        then harder, each time waiting the seconds given.
        """
        with self._lock:
            self.stopping = True
            alive = dict(self._alive)
        groups = list(alive)
        for number, seconds in steps:
            groups = [group for group in groups if _signal(group, number)]
            end = time.monotonic() + seconds
            while groups and time.monotonic() < end:
                time.sleep(0.05)
                for process in alive.values():  # or it stays as a zombie, where no thread waits for it
                    process.poll()
                groups = [group for group in groups if _signal(group, 0)]


@contextmanager
def interruptible(groups: Groups) -> Iterator[None]:
    """End all groups when the block is left by an exception: Ctrl-C, or Prefect's own for SIGTERM and a cancellation.

    A worker that cancels a run sends SIGTERM and, 30 s later, SIGKILL; the steps of :data:`GENTLE` take 15 s at most.
    """
    try:
        yield
    except BaseException:
        try:
            groups.stop()
        except BaseException:  # a second Ctrl-C
            groups.stop(HARD)
        raise


def _signal(group: int, number: int) -> bool:
    """Send a signal to a process group; False when nothing of it is left."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def dvc_command(stage: str, *, force: bool = False) -> list[str]:
    """`-s`: upstreams are the flow's business, and two processes must not collide on them."""
    return [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", *(["-f"] if force else []), "-s", stage]


def stage_environment(threads: int) -> dict[str, str]:
    """The environment of a stage: this environment's Python first in PATH, and its share of the cores."""
    env = dict(os.environ)
    env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), env.get("PATH", "")])
    env["GRANDROUNDS_THREADS"] = str(threads)
    env["PYTHONUNBUFFERED"] = "1"
    env["DVC_NO_ANALYTICS"] = "1"
    return env


def available_cores() -> int:
    """The cores that this process may use: a container or taskset may allow fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def log_path(root: Path, stage: str) -> Path:
    return root / SCRATCH / "logs" / f"{stage}.log"


def outcome(code: int, stage: str, log: Path) -> str:
    """One of "ran", "unchanged", "restored" (from DVC's run cache) and "failed"."""
    if code:
        return "failed"
    with log.open("rb") as file:
        text = file.read(4_000).decode("utf-8", "replace")  # DVC says it before anything else
    if UNCHANGED.format(stage=stage) in text:
        return "unchanged"
    return "restored" if RESTORED.format(stage=stage) in text else "ran"


def last_line(log: Path) -> str:
    """The newest line of a log that says something, as a person would see it: after any carriage return."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4_000))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    lines = [part.split("\r")[-1].strip() for part in text.replace("\r\n", "\n").split("\n")]
    return next((line for line in reversed(lines) if line), "")


def cause(log: Path) -> str:
    """The line of a failed stage's log that says why: our own `error: ...` if there is one, else the last that tells.

    That is not DVC's on the command that failed; it is when DVC itself did, on a cache that is full.
    """
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "it did not start"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    ours = [line for line in lines if line.startswith("error:")]
    theirs = [line for line in lines if not _SAYS_NOTHING.match(line)]
    return (ours or theirs or ["no output"])[-1][:300]
