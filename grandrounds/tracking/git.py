"""Git, by its own program. Where it is not installed, all is as in a folder that is in no repository."""

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grandrounds.errors import one_line

# what DVC writes while stages run is no change of the code
OWNED_BY_DVC = (":!dvc.lock", ":!data", ":!models", ":!reports")


@dataclass(frozen=True)
class Said:
    """What git answered: `out` is empty where it failed, and `problem`, one line, where it did not."""

    out: bytes = b""
    problem: str = ""
    installed: bool = True

    @property
    def text(self) -> str:
        return self.out.decode(errors="replace").strip()


def ask(root: str | Path, *words: str, timeout: float | None = None) -> Said:
    """`git WORDS` in a folder. Raises nothing."""
    try:
        done = subprocess.run(["git", *words], cwd=root, capture_output=True, check=False, timeout=timeout)
    except (OSError, subprocess.TimeoutExpired) as error:
        missing = isinstance(error, FileNotFoundError) and error.filename == "git"
        return Said(problem=one_line(str(error)), installed=not missing)
    if done.returncode:
        return Said(problem=one_line(done.stderr.decode(errors="replace"), 200) or f"ended with {done.returncode}")
    return Said(done.stdout)


def changes(root: str | Path, timeout: float | None = None) -> list[str]:
    """Tracked files, other than DVC's, that differ from the commit, as `git status --porcelain` shows them."""
    words = ("status", "--porcelain", "--untracked-files=no", "--", ".", *OWNED_BY_DVC)
    return ask(root, *words, timeout=timeout).text.splitlines()


def state(root: str | Path = ".") -> dict[str, Any]:
    """The commit of the code, and whether tracked files other than DVC's were changed since."""
    return {"commit": ask(root, "rev-parse", "--verify", "HEAD").text, "dirty": bool(changes(root))}


def shallow(root: str | Path) -> bool:
    return ask(root, "rev-parse", "--is-shallow-repository").text == "true"
