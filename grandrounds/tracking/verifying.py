"""Whether the bytes that a model came from are still those that its records name: everything in reach is hashed anew.

No size is trusted and no md5 is taken from a lock file. Bytes that are not in the workspace are looked for in DVC's
cache and hashed there; code in the commit of its run; the model's own files in the registry too.
"""

import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from grandrounds.tracking import git, lock, picking, store
from grandrounds.tracking import lineage as trees
from grandrounds.tracking.lineage import Lineage

State = Literal["true", "changed", "missing"]


@dataclass(frozen=True)
class Check:
    """One path with the md5 that a record gives it."""

    path: str
    md5: str
    state: State
    where: str  # workspace, cache, commit c0ffee, registry; for what is not true: what was found


def verify(model: str, alias: str, root: str | Path = ".") -> list[Check]:
    """Hash everything that `<model>@<alias>` came from, each (path, md5) once, the model first."""
    found = trees.walk(model, alias)
    return [_registered(model, alias, found), *check(found, root)]


def check(found: Lineage, root: str | Path = ".") -> list[Check]:
    """The same for a lineage, without the registry's copy of the model."""
    folder, cache = Path(root), cache_of(root)
    hashed: dict[str, str | None] = {}
    done: dict[tuple[str, str], Check] = {}
    kept = not found.root.path.startswith(picking.CHECKPOINT)  # else the registry alone has it
    edges = [
        *([(found.root, "")] if kept else []),
        *((edge, node.commit) for node in found.nodes() for edge in node.inputs),
    ]
    for edge, commit in edges:
        if (edge.path, edge.md5) not in done:
            one = _data(edge.path, edge.md5, folder, cache, hashed)
            if one.state != "true" and edge.node is None:  # Git may have it
                one = _source(one, commit, folder)
            done[edge.path, edge.md5] = one
    for path, md5 in found.source_files().items():
        done[path, md5] = _data(path, md5, folder, cache, hashed)
    for node in found.nodes():
        if not node.whole:
            what = f"code of {node.name}"
            done[what, ""] = Check(what, "", "missing", f"not recorded: run {node.run_id} was killed")
        for path, md5 in node.code.items():
            if (path, md5) not in done:
                done[path, md5] = _code(path, md5, node.commit, folder, hashed)
    return list(done.values())


def _data(path: str, md5: str, root: Path, cache: Path, hashed: dict[str, str | None]) -> Check:
    now = _now(path, root, hashed)
    if now == md5:
        return Check(path, md5, "true", "workspace")
    damaged = list(damage(md5, cache))
    if not damaged:
        return Check(path, md5, "true", "DVC cache" if now is None else f"DVC cache; the workspace has {now}")
    if now is None:
        return Check(path, md5, "missing", damaged[0])
    return Check(path, md5, "changed", f"the workspace has {now}{_which(path, md5, root, cache)}; {damaged[0]}")


def _now(path: str, root: Path, hashed: dict[str, str | None]) -> str | None:
    """The md5 of what is in the workspace now, hashed once."""
    if path not in hashed:
        hashed[path] = rehash(root / path, root) if (root / path).exists() else None
    return hashed[path]


def rehash(path: Path, root: str | Path = ".") -> str:
    """DVC's md5 of a file or folder, from its bytes whatever its size."""
    return lock.file_md5(path) if path.is_file() else lock.folder_digest(path, lock.listed(path, root))


def cache_of(root: str | Path = ".") -> Path:
    """DVC's cache of this project, as its configuration has it."""
    try:
        asked = [sys.executable, "-m", "dvc", "cache", "dir"]
        done = subprocess.run(asked, cwd=root, capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return Path(root, ".dvc/cache/files/md5")
    said = done.stdout.strip().splitlines()
    return Path(said[-1] if done.returncode == 0 and said else Path(root, ".dvc/cache")) / "files/md5"


def cached(md5: str, cache: Path) -> Path:
    """Where DVC keeps the bytes, or the list of a folder, with this md5."""
    return cache / md5[:2] / md5[2:]


def damage(md5: str, cache: Path) -> Iterator[str]:
    """What is wrong with the cache's copy, file by file; nothing when it is whole."""
    path = cached(md5, cache)
    if not path.is_file():
        yield "not in DVC's cache (`dvc fetch`)"
    elif lock.file_md5(path) != md5.removesuffix(".dir"):
        yield f"DVC's cache has other bytes under {md5}"
    elif md5.endswith(".dir"):
        for row in json.loads(path.read_text(encoding="utf-8")):
            for problem in damage(row["md5"], cache):
                yield f"{row['relpath']}: {problem}"


def _which(path: str, md5: str, root: Path, cache: Path) -> str:
    """The first file of a folder that differs, where DVC's cache still has the list."""
    listed = cached(md5, cache)
    if not md5.endswith(".dir") or not listed.is_file() or not (root / path).is_dir():
        return ""
    for row in json.loads(listed.read_text(encoding="utf-8")):
        file = root / path / row["relpath"]
        if not file.is_file() or lock.file_md5(file) != row["md5"]:
            return f" ({row['relpath']} {'differs' if file.is_file() else 'is missing'})"
    return " (it has a file more)"


def _code(path: str, md5: str, commit: str, root: Path, hashed: dict[str, str | None]) -> Check:
    now = _now(path, root, hashed)
    if now == md5:
        return Check(path, md5, "true", "workspace")
    if in_git(path, md5, commit, root):
        return Check(path, md5, "true", f"commit {commit[:7]}")
    where = f"commit {commit[:7] or '(none)'}"
    if absent := _absent(commit, root):
        return Check(path, md5, "missing", absent if now is None else f"the workspace has {now}; {absent}")
    if now is None:
        return Check(path, md5, "missing", f"neither here nor in {where}")
    return Check(path, md5, "changed", f"the workspace has {now}, and {where} other bytes")


def _source(one: Check, commit: str, root: Path) -> Check:
    if in_git(one.path, one.md5, commit, root):
        return Check(one.path, one.md5, "true", f"commit {commit[:7]}")
    if absent := _absent(commit, root):
        return Check(one.path, one.md5, "missing", f"{one.where}; {absent}")
    return one


def _absent(commit: str, root: Path) -> str:
    """Why nothing of a commit can be said: this clone does not have it; "" where it does, or where Git is not used."""
    inside = not git.ask(root, "rev-parse", "--is-inside-work-tree").problem
    if not commit or not inside or not git.ask(root, "cat-file", "-e", f"{commit}^{{commit}}").problem:
        return ""
    how = "`git fetch --unshallow`" if git.shallow(root) else "`git fetch`"
    return f"this clone does not have commit {commit[:7]} ({how})"


def in_git(path: str, md5: str, commit: str, root: Path) -> bool:
    """Whether a file or folder of the program has this md5 in a commit."""
    if not commit:
        return False

    def digest(name: str) -> str:
        shown = git.ask(root, "show", f"{commit}:./{name}")
        return "" if shown.problem else hashlib.md5(shown.out, usedforsecurity=False).hexdigest()

    if not md5.endswith(".dir"):
        return digest(path) == md5
    names = git.ask(root, "ls-tree", "-r", "--name-only", "-z", commit, "--", path).out.decode().split("\0")
    rows = [{"md5": digest(name), "relpath": name.removeprefix(path + "/")} for name in names if name]
    return bool(rows) and lock.list_digest(rows) == md5


def _registered(model: str, alias: str, found: Lineage) -> Check:
    """The registry's own copy of the model. Full weights are there by reference only."""
    import mlflow
    from mlflow.exceptions import MlflowException

    name, md5 = f"{model} version {found.version}", found.root.md5
    client, _ = store.connect()
    version = trees.find_version(client, model, alias)
    with tempfile.TemporaryDirectory() as folder:
        try:
            got = mlflow.artifacts.download_artifacts(f"models:/{model}/{version.version}", dst_path=folder)
        except (MlflowException, OSError) as error:
            return Check(name, md5, "missing", f"the registry cannot give it: {' '.join(str(error).split())[:200]}")
        own = [path for path in Path(got).rglob("*") if path.is_file() and path.name not in picking.OURS]
        if not own:
            return Check(name, md5, "true", "registry, by reference to DVC")
        now = picking.own_digest(Path(got))
    if now == md5:
        return Check(name, md5, "true", "registry")
    return Check(name, md5, "changed", f"the registry's copy has {now}")
