"""DVC experiments by name: whether one is there, run it, and read a file that it made.

An experiment runs in a temporary copy of the project (`dvc exp run --temp`), so that the workspace's own data, models
and reports stay as they are; `dvc exp show` lists it beside the rest. What was run before, under whatever name, comes
from DVC's run cache.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from grandrounds.errors import UserError
from grandrounds.tracking import git


def find(name: str) -> str | None:
    """The commit of the experiment of this name on top of the current commit, or None."""
    from dvc.repo.experiments.refs import ExpRefInfo

    head = git.ask(".", "rev-parse", "--verify", "HEAD")
    if not head.installed:
        raise UserError("experiments need git, which is not installed here")
    if head.problem:
        raise UserError("experiments need a git commit to stand on: `git init`, then `git commit`")
    if not os.getcwd().isascii():  # dulwich, with which DVC fills the copy, looks for an address with %C3 as a folder
        raise UserError(
            f"{os.getcwd()}: DVC's experiments do not run in a folder whose path has letters outside ASCII; move or "
            "clone the project to another one"
        )
    return git.ask(".", "rev-parse", "--verify", "--quiet", str(ExpRefInfo(head.text, name))).text or None


def command(name: str, targets: Sequence[str], settings: Sequence[str], *, force: bool = False) -> list[str]:
    """`dvc exp run`, for a process of its own."""
    how = ["--temp", "--name", name, *(["--force"] if force else [])]
    changes = [word for each in settings for word in ("--set-param", each)]
    return [sys.executable, "-m", "dvc", "--wait-for-lock", "exp", "run", *how, *changes, *targets]


def settings(raw: Mapping[str, Any], overrides: Mapping[str, Any]) -> Iterator[str]:
    """The overrides as `dvc exp run -S` takes them (Hydra's grammar)."""
    for key, value in overrides.items():
        there = look_up(raw, key)[0]
        if value is None:
            if there:
                yield f"~{key}"
            continue
        if isinstance(value, dict) and there:  # Hydra would merge the two mappings
            yield f"~{key}"
        yield f"++{key}={_hydra(value)}"


def _hydra(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_hydra(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_hydra, value)) + "]"
    if isinstance(value, str):
        # between quotes, line breaks and all, it knows one escape: that of a quote, and of backslashes in front of it
        return '"' + re.sub(r'(\\*)("|\Z)', lambda found: found[1] * 2 + (r"\"" if found[2] else ""), value) + '"'
    return json.dumps(value)


def look_up(raw: Mapping[str, Any], key: str) -> tuple[bool, Any]:
    """Whether a dotted key is there, and its value."""
    node: Any = raw
    for part in key.split("."):
        if not isinstance(node, dict) or part not in node:
            return False, None
        node = node[part]
    return True, node


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
