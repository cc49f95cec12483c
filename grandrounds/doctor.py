"""What `grandrounds doctor` looks at: whether this machine and this checkout can run the pipeline, and what to mend."""

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from grandrounds.errors import UserError

GIB = 2**30
DISK_NEEDED = 5 * GIB  # models, predictions and DVC's cache of a few runs of the embedded default
MEMORY_NEEDED = 6 * GIB
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@dataclass(frozen=True)
class Finding:
    state: Literal["ok", "note", "bad"]  # note: works without, or only matters for some
    what: str
    found: str
    mend: str = ""


def examine(root: Path) -> Iterator[Finding]:
    """Every check in turn; none raises."""
    checks: list[Callable[[Path], Finding]] = [
        _python,
        _packages,
        _params,
        _dvc,
        _cores,
        _memory,
        _disk,
        _gpu,
        _browser,
    ]
    for each in checks:
        yield each(root)


def _python(_: Path) -> Finding:
    found = f"{platform.python_version()} at {sys.executable}"
    if sys.prefix == sys.base_prefix:
        return Finding(
            "note", "Python", f"{found}, no virtual environment", "`make setup`, then `. .venv/bin/activate`"
        )
    return Finding("ok", "Python", found)


def _packages(root: Path) -> Finding:
    pins = root / "constraints.txt"
    if not pins.is_file():
        return Finding("note", "packages", "no constraints.txt to compare with", "`git checkout constraints.txt`")
    differing, wanted = [], pinned(pins.read_text(encoding="utf-8"))
    for name, version in wanted.items():
        try:
            installed = metadata.version(name)
        except metadata.PackageNotFoundError:
            installed = "missing"
        if installed.split("+")[0] != version:
            differing.append(f"{name} {installed} (tested: {version})")
    if not differing:
        return Finding("ok", "packages", f"all {len(wanted)} as in constraints.txt")
    missing = any(" missing " in each for each in differing)
    more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
    mend = "`touch constraints.txt && make setup`"
    return Finding("bad" if missing else "note", "packages", ", ".join(differing[:3]) + more, mend)


def pinned(text: str) -> dict[str, str]:
    """name -> version of a constraints file."""
    lines = (line.split("#")[0].split(";")[0].strip() for line in text.splitlines())
    return dict(line.split("==", 1) for line in lines if "==" in line)


def _params(root: Path) -> Finding:
    from grandrounds.params import load

    try:
        load(root / "params.yaml")
    except UserError as error:
        return Finding("bad", "params.yaml", str(error), "mend that line, or `grandrounds recipe use embedded`")
    return Finding("ok", "params.yaml", "valid")


def _dvc(root: Path) -> Finding:
    if not (root / ".dvc").is_dir():
        return Finding("bad", "DVC", "not initialised here", "`make setup`, or `dvc init` in the project folder")
    if not (root / "dvc.lock").is_file():
        return Finding("note", "DVC", "initialised; nothing was run yet", "`make repro` or `grandrounds run`")
    return Finding("ok", "DVC", "initialised; dvc.lock is there")


def _cores(_: Path) -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if cores < 2:
        return Finding("note", "cores", str(cores), "works, but takes twice as long: `grandrounds run --workers 1`")
    return Finding("ok", "cores", f"{cores}; `grandrounds run --workers {min(cores, 4)}` uses them")


def _memory(_: Path) -> Finding:
    import psutil

    free = psutil.virtual_memory().available
    found = f"{free / GIB:.1f} GiB free"
    if free < MEMORY_NEEDED:
        return Finding("note", "memory", found, "stages may take up to 6 GiB: end other programs, or use `--workers 1`")
    return Finding("ok", "memory", found)


def _disk(root: Path) -> Finding:
    free = shutil.disk_usage(root).free
    found = f"{free / GIB:.0f} GiB free"
    if free < DISK_NEEDED:
        return Finding("bad", "disk", found, "5 GiB are needed: `dvc gc --workspace` removes what no run here uses")
    return Finding("ok", "disk", found)


def _gpu(_: Path) -> Finding:
    """By the driver's files only: importing torch would take seconds."""
    if Path("/proc/driver/nvidia/version").is_file() or shutil.which("nvidia-smi"):
        return Finding("ok", "GPU", "an NVIDIA driver is there; compute.device auto uses it")
    return Finding("note", "GPU", "none", "not needed for the embedded default; the published recipes need one")


def _browser(_: Path) -> Finding:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found:
        return Finding("ok", "browser", f"{found}, for the report's tests")
    return Finding("note", "browser", "no Chromium", "only the report's browser tests skip: `apt-get install chromium`")
