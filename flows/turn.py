"""One run at a time in a project folder. The next one waits, and says in one line for whom.

DVC's own locks keep two runs from writing one file, but not from planning on what the other is about to change, nor
from sharing the cores that each believes to have. The lock is the kernel's: it ends with the process that holds it,
however that ends. Experiments run in folders of their own and need no turn.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from flows.settings import SCRATCH
from grandrounds.files import write_json

LOCK, HOLDER = SCRATCH / "run.lock", SCRATCH / "run.json"
POLL = 1.0  # seconds


@contextmanager
def turn(root: Path, run: str, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the folder `root` for the block. `run`: our name, for others to read; `say` gets the line about a wait."""
    (root / SCRATCH).mkdir(parents=True, exist_ok=True)
    lock = FileLock(root / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say(f"another run is at work in this folder ({_holder(root)}): waiting until it ends")
        lock.acquire(poll_interval=POLL)
    try:
        write_json(root / HOLDER, {"run": run, "pid": os.getpid(), "since": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"})
        yield
    finally:
        (root / HOLDER).unlink(missing_ok=True)
        lock.release()


def _holder(root: Path) -> str:
    try:
        told = json.loads((root / HOLDER).read_text(encoding="utf-8"))
        return f"{told['run']}, process {told['pid']}, since {told['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "it has not said who it is"
