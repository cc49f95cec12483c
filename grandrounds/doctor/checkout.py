"""The checkout: params.yaml, DVC, git, whether it can be written to, and the clock against its newest commit."""

import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from grandrounds.doctor.finding import Finding
from grandrounds.errors import UserError
from grandrounds.tracking import git

WRITTEN = (".", "data", "models", "reports", ".dvc", ".mlflow", ".prefect", ".scratch")  # those that are there
PATIENCE = 5.0  # seconds for git, which may lie on a slow disk
SLACK = 600  # seconds that the clock may be behind the newest commit: two machines never agree to the second


def params(root: Path) -> Finding:
    from grandrounds.params import load

    try:
        load(root / "params.yaml")
    except UserError as error:
        return Finding("bad", "params.yaml", str(error), "mend that line, or `grandrounds recipe use embedded`")
    return Finding("ok", "params.yaml", "valid")


def dvc(root: Path) -> Finding:
    if not (root / ".dvc").is_dir():
        return Finding("bad", "DVC", "not initialised here", "`make setup`, or `dvc init` in the project folder")
    if not (root / "dvc.lock").is_file():
        return Finding("note", "DVC", "initialised; nothing was run yet", "`make repro` or `grandrounds run`")
    return Finding("ok", "DVC", "initialised; dvc.lock is there")


def repository(root: Path) -> Finding:
    inside = git.ask(root, "rev-parse", "--is-inside-work-tree", timeout=PATIENCE)
    if inside.problem:
        why = f" ({inside.problem})" if "dubious ownership" in inside.problem else ""
        mend = "`git init`, then `git commit`: without it no record names its code, and there are no experiments"
        return Finding("note", "git", f"this folder is in no git repository{why}", mend)
    commit = git.ask(root, "rev-parse", "--short", "--verify", "HEAD", timeout=PATIENCE).text
    if not commit:
        return Finding("note", "git", "no commit yet", "`git add -A && git commit`: experiments stand on a commit")
    changes = git.changes(root, PATIENCE)
    told, mends = [f"commit {commit}"], []
    if git.shallow(root):
        told.append("a shallow clone")
        mends.append("`git fetch --unshallow`: compare, and lineage of older models, read earlier commits")
    if changes:
        told.append(f"{len(changes)} tracked {'file' if len(changes) == 1 else 'files'} with changes")
        mends.append("`git commit` before a run that is to be kept: its run.json will say `dirty`")
    return Finding("note" if mends else "ok", "git", ", ".join(told), "; ".join(mends))


def writable(root: Path) -> Finding:
    """By writing, as permission bits tell nothing of a read-only mount, nor of what root may do."""
    for name in WRITTEN:
        folder = root / name
        if not folder.is_dir():
            continue
        try:
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            mend = f"`chmod u+w {name}`, or copy the checkout to where you may write"
            return Finding("bad", "writable", f"{folder} cannot be written to ({error.strerror})", mend)
    return Finding("ok", "writable", "the project's folders can be written to")


def clock(root: Path) -> Finding:
    now = time.time()
    newest = git.ask(root, "log", "-1", "--format=%ct", timeout=PATIENCE).text
    told = datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds")
    if newest.isdecimal() and now < int(newest) - SLACK:
        behind = (int(newest) - now) / 3600
        mend = "set it (`timedatectl set-ntp true`): lineage takes of equal bytes the run that started last"
        return Finding("bad", "clock", f"{told}, {behind:.1f} hours before the newest commit", mend)
    return Finding("ok", "clock", told)
