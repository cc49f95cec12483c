"""dvc.lock, read without importing dvc (0.5 s): which md5 every data file has, and DVC's own md5 of any path."""

import hashlib
import json
import os
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from grandrounds.errors import UserError
from grandrounds.files import need

SMALL = 64 * 2**20  # below this many bytes a path is hashed anew; above, dvc.lock is trusted if sizes agree
_MD5 = re.compile(r"^[0-9a-f]{32}(\.dir)?$")


@dataclass(frozen=True)
class Entry:
    """One dep or out of dvc.lock."""

    path: str
    md5: str  # ends in ".dir" for a folder
    size: int | None = None
    nfiles: int | None = None


@dataclass(frozen=True)
class Stage:
    """One stage of dvc.lock. `name` is DVC's: `adapt@pediatrics`."""

    name: str
    cmd: str
    deps: dict[str, Entry] = field(default_factory=dict)
    outs: dict[str, Entry] = field(default_factory=dict)
    params: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Lock:
    """What dvc.lock says of all stages."""

    stages: dict[str, Stage]

    def out(self, path: str | Path) -> Entry | None:
        """The entry of an output, or None where no stage writes exactly this path."""
        stage = self.producer(path)
        return self.stages[stage].outs.get(plain(path)) if stage else None

    def producer(self, path: str | Path) -> str | None:
        """The stage that writes this path, or the folder that it lies in; None for a source."""
        wanted = plain(path)
        for stage in self.stages.values():
            if any(wanted == out or wanted.startswith(out + "/") for out in stage.outs):
                return stage.name
        return None

    def parts(self, path: str | Path) -> list[str]:
        """Outputs that lie in a folder which is no output itself (data/predictions)."""
        inside = plain(path) + "/"
        return sorted(out for stage in self.stages.values() for out in stage.outs if out.startswith(inside))

    def writer_of(self, md5: str) -> tuple[str, str] | None:
        """(stage, path) of the output with this md5."""
        for stage in self.stages.values():
            for out in stage.outs.values():
                if out.md5 == md5:
                    return stage.name, out.path
        return None


def plain(path: str | Path) -> str:
    """A path as dvc.yaml writes it: relative, forward slashes, no trailing one."""
    return os.path.normpath(str(path)).replace(os.sep, "/")


def read(root: str | Path = ".") -> Lock:
    """Read dvc.lock of a project; no file is an empty lock.

    DVC rewrites the file in place when another stage ends, so a half-written one is read again before it is refused.
    """
    path = Path(root) / "dvc.lock"
    for attempt in range(5):
        if not path.is_file():
            return Lock({})
        try:
            return parse(path.read_text(encoding="utf-8"), str(path))
        except UserError:
            if attempt == 4:
                raise
            time.sleep(0.1)
    raise AssertionError("unreachable")


def parse(text: str, where: str) -> Lock:
    """The text of a dvc.lock. Raises UserError, naming it as `where`."""
    try:
        raw = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        problem = "no stages in it"
    except yaml.YAMLError as error:
        raw, problem = None, " ".join(str(error).split())
    if isinstance(raw, dict) and isinstance(raw.get("stages"), dict):
        stages = {name: body for name, body in raw["stages"].items() if isinstance(body, dict)}
        return Lock({name: _stage(name, body) for name, body in stages.items()})
    raise UserError(f"{where}: not a lock file of DVC ({problem}); `git checkout dvc.lock` brings it back")


def _stage(name: str, body: dict[str, Any]) -> Stage:
    def entries(key: str) -> dict[str, Entry]:
        rows = body.get(key) or []
        # a cut-off md5 is the mark of a file that is being written: such a row is no record
        good = [row for row in rows if isinstance(row, dict) and _MD5.match(str(row.get("md5", "")))]
        found = [Entry(plain(row["path"]), row["md5"], row.get("size"), row.get("nfiles")) for row in good]
        return {entry.path: entry for entry in found}

    params = (body.get("params") or {}).get("params.yaml") or {}
    return Stage(name, str(body.get("cmd", "")), entries("deps"), entries("outs"), dict(params))


def digest(path: str | Path, root: str | Path = ".", lock: Lock | None = None) -> Entry:
    """DVC's md5 of a file or folder in the project.

    A small path is hashed, so that a record is true even of a file that was changed by hand. A large one (a 32B model)
    has the md5 that dvc.lock gives it, as long as size and number of files agree.
    """
    full = need(Path(root) / path)
    name = plain(path)
    files = [full] if full.is_file() else listed(full, root)
    size = sum(each.stat().st_size for each in files)
    nfiles = None if full.is_file() else len(files)
    if size > SMALL:
        known = (lock or read(root)).out(name)
        if known and known.size == size and known.nfiles == nfiles:
            return known
    md5 = file_md5(full) if full.is_file() else folder_digest(full, files)
    return Entry(name, md5, size, nfiles)


def listed(folder: Path, root: str | Path = ".") -> list[Path]:
    """The files of a folder that DVC sees, sorted: without what .dvcignore names (.gitignore, .gitkeep)."""
    found = sorted(each for each in folder.rglob("*") if each.is_file())
    patterns = Path(root) / ".dvcignore"
    if not patterns.is_file():
        return found
    from pathspec import GitIgnoreSpec

    ignored = GitIgnoreSpec.from_lines(patterns.read_text(encoding="utf-8").splitlines())
    return [each for each in found if not ignored.match_file(each.relative_to(folder).as_posix())]


def file_md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def folder_digest(folder: Path, files: list[Path]) -> str:
    """The md5 that DVC gives a folder of these files (dvc_data.hashfile.tree.Tree.digest).

    That is the md5 of the JSON list of {md5, relpath}, sorted by relpath.
    """
    rows = [{"md5": file_md5(file), "relpath": file.relative_to(folder).as_posix()} for file in files]
    return list_digest(rows)


def list_digest(rows: list[dict[str, str]]) -> str:
    """The md5 of a folder from the {md5, relpath} of its files."""
    text = json.dumps(sorted(rows, key=lambda row: row["relpath"]), sort_keys=True)
    return hashlib.md5(text.encode("utf-8"), usedforsecurity=False).hexdigest() + ".dir"
