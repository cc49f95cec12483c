"""DVC experiments by name: whether one is there, run it, and read a file that it made.

An experiment runs in a temporary copy of the project (`dvc exp run --temp`), so that the workspace's own data, models
and reports stay as they are; `dvc exp show` lists it beside the rest. What was run before, under whatever name, comes
from DVC's run cache.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from grandrounds.errors import UserError


def find(name: str) -> str | None:
    """The commit of the experiment of this name on top of the current commit, or None."""
    from dvc.repo.experiments.refs import ExpRefInfo

    head = _git("rev-parse", "--verify", "HEAD")
    if not head:
        raise UserError("experiments need a git commit to stand on: `git init`, then `git commit`")
    return _git("rev-parse", "--verify", "--quiet", str(ExpRefInfo(head, name))) or None


def command(name: str, targets: Sequence[str], settings: Sequence[str]) -> list[str]:
    """`dvc exp run`, for a process of its own."""
    changes = [word for each in settings for word in ("--set-param", each)]
    return [sys.executable, "-m", "dvc", "--wait-for-lock", "exp", "run", "--temp", "--name", name, *changes, *targets]


def remove(name: str) -> None:
    """Forget an experiment: the next of its name takes its place. What it made stays in DVC's cache."""
    subprocess.run([sys.executable, "-m", "dvc", "exp", "remove", "--quiet", name], check=True, capture_output=True)


def fetch(revision: str, path: str, to: Path) -> None:
    """Copy a file that DVC tracks, as it was in a commit, out of the cache (or the remote)."""
    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException

    try:
        DVCFileSystem(".", rev=revision).get_file(path, str(to))
    except (DvcException, OSError) as error:
        raise UserError(f"{path} of experiment {revision[:7]}: {error}; `dvc exp remove` it and run it anew") from error


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""
