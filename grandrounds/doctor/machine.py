"""The machine: Python and its packages, cores, memory, disks, GPU, browser."""

import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from grandrounds.doctor.finding import Finding

GIB = 2**30
DISK_NEEDED = 5 * GIB  # models, predictions and DVC's cache of a few runs of the embedded default
TEMPORARY_NEEDED = GIB  # DVC experiments and downloads pass through the temporary folder
MEMORY_NEEDED = 6 * GIB
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
INSTALLED_BY_SETUP = ("dev",)  # extras that `make setup` installs
PROJECT = "grandrounds"


def python(_: Path) -> Finding:
    found = f"{platform.python_version()} at {sys.executable}"
    if sys.prefix == sys.base_prefix:
        return Finding(
            "note", "Python", f"{found}, no virtual environment", "`make setup`, then `. .venv/bin/activate`"
        )
    return Finding("ok", "Python", found)


def packages(root: Path) -> Finding:
    """Against constraints.txt. A package that is not there is a fault only when `make setup` would install it."""
    pins = root / "constraints.txt"
    if not pins.is_file():
        return Finding("note", "packages", "no constraints.txt to compare with", "`git checkout constraints.txt`")
    wanted, needed = pinned(pins.read_text(encoding="utf-8")), required(PROJECT, INSTALLED_BY_SETUP)
    installed = {name: _installed(name) for name in wanted}
    missing = [name for name, version in installed.items() if version is None and normal(name) in needed]
    differing = [
        f"{name} {version} (tested: {wanted[name]})"
        for name, version in installed.items()
        if version is not None and version.split("+")[0] != wanted[name]
    ]
    optional = sum(version is None for version in installed.values()) - len(missing)
    more = f"; {optional} that only extras need are not installed" if optional else ""
    if not missing and not differing:
        return Finding("ok", "packages", f"{len(wanted) - optional} as in constraints.txt{more}")
    told = [*(f"{name} is missing" for name in missing), *differing]
    others = f" and {len(told) - 3} more" if len(told) > 3 else ""
    mend = "`touch constraints.txt && make setup`"
    return Finding("bad" if missing else "note", "packages", ", ".join(told[:3]) + others, mend)


def pinned(text: str) -> dict[str, str]:
    """name -> version of a constraints file."""
    lines = (line.split("#")[0].split(";")[0].strip() for line in text.splitlines())
    return dict(line.split("==", 1) for line in lines if "==" in line)


def normal(name: str) -> str:
    """A package's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def required(package: str, extras: Iterable[str] = ()) -> set[str]:
    """Names of all that `package[extras]` drags in here, by the metadata of what is installed.

    Of a package that is missing its own needs are not known, and not in it.
    """
    from packaging.requirements import Requirement

    found: set[tuple[str, str]] = set()
    todo = [(normal(package), extra) for extra in ("", *extras)]
    while todo:
        name, extra = todo.pop()
        if (name, extra) in found:
            continue
        found.add((name, extra))
        try:
            lines = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        for each in map(Requirement, lines):
            if each.marker is None or each.marker.evaluate({"extra": extra}):
                todo += [(normal(each.name), more) for more in ("", *each.extras)]
    return {name for name, _ in found} - {normal(package)}


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def cores(_: Path) -> Finding:
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if count < 2:
        return Finding("note", "cores", str(count), "works, but takes twice as long: `grandrounds run --workers 1`")
    return Finding("ok", "cores", f"{count}; `grandrounds run --workers {min(count, 4)}` uses them")


def memory(_: Path) -> Finding:
    import psutil

    free = psutil.virtual_memory().available
    found = f"{free / GIB:.1f} GiB free"
    if free < MEMORY_NEEDED:
        return Finding("note", "memory", found, "stages may take up to 6 GiB: end other programs, or use `--workers 1`")
    return Finding("ok", "memory", found)


def disk(root: Path) -> Finding:
    """The project's, DVC's cache's and the temporary folder's disk; each only once."""
    cache, temporary = cache_folder(root), Path(tempfile.gettempdir())
    places = {"the project": root, f"DVC's cache, {cache}": cache, f"temporary files, {temporary}": temporary}
    told, mends, seen = [], [], set()
    for name, folder in places.items():
        there = next(each for each in (folder, *folder.absolute().parents) if each.exists())
        free, device = shutil.disk_usage(there).free, there.stat().st_dev
        if device in seen:
            continue
        seen.add(device)
        told.append(f"{free / GIB:.1f} GiB free for {name}")
        if folder == temporary and free < TEMPORARY_NEEDED:
            mends.append("1 GiB is needed for temporary files: empty the folder, or set TMPDIR to another")
        elif folder != temporary and free < DISK_NEEDED:
            mends.append(f"5 GiB are needed for {name}: `dvc gc --workspace` removes what no run here uses")
    return Finding("bad" if mends else "ok", "disk", ", ".join(told), "; ".join(mends))


def cache_folder(root: Path) -> Path:
    """DVC's cache of this project, as its configuration has it."""
    from dvc.config import Config

    if not (root / ".dvc").is_dir():
        return root
    return Path(Config(str(root / ".dvc")).get("cache", {}).get("dir") or root / ".dvc/cache")


def gpu(_: Path) -> Finding:
    """By the driver's files only: importing torch would take seconds."""
    if Path("/proc/driver/nvidia/version").is_file() or shutil.which("nvidia-smi"):
        return Finding("ok", "GPU", "an NVIDIA driver is there; compute.device auto uses it")
    return Finding("note", "GPU", "none", "not needed for the embedded default; the published recipes need one")


def browser(_: Path) -> Finding:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found:
        return Finding("ok", "browser", f"{found}, for the report's tests")
    return Finding("note", "browser", "no Chromium", "only the report's browser tests skip: `apt-get install chromium`")
