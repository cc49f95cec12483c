"""What every stage does around its own work: header, MLflow run, metrics, curves, run.json, and how it ends."""

import csv
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from grandrounds import files, runtime
from grandrounds.errors import UserError, of_disk, unknown
from grandrounds.params import ITEMS, Params, load
from grandrounds.tracking import checkpoints, git, launch, lock, server, store
from grandrounds.tracking.position import position
from grandrounds.tracking.progress import duration
from grandrounds.tracking.writer import Writer, now

PACKAGES = (
    "grandrounds", "torch", "transformers", "trl", "peft", "accelerate", "datasets", "bert-score",
    "numpy", "pyarrow", "dvc", "mlflow", "prefect", "vllm", "ray",
)  # fmt: skip
SHOWN = 3  # warnings of one kind on the terminal
LISTED = 10_000  # files of source folders in run.json, at most; of more, only the folder's md5 is kept
FLUSH = 30.0  # seconds between two sendings of a curve, so that a run of hours can be watched


class StageRun:
    """One run of one stage. Made by :func:`stage_run`."""

    def __init__(self, stage: str, item: str | None, params: Params, writer: Writer | None = None) -> None:
        self.stage, self.item = stage, item
        self.parameters: dict[str, Any] = sections(stage, item, params)
        self.metrics: dict[str, float] = {}
        self.warnings: list[str] = []
        self.identity = ""  # hash of all that decides the result: parameters, inputs, code
        self.folder = Path("reports", stage, *([item] if item else []))
        self._rows: list[dict[str, float]] = []
        self._unsent: list[list[Any]] = []
        self._sent = time.monotonic()
        self._writer = writer

    def curve(self, step: int, **values: float) -> None:
        """One row of curves.csv and of MLflow's curves. Names may hold `/`: `curve(3, **{"rewards/format": 1.0})`."""
        row = {name: float(value) for name, value in values.items()}
        self._rows.append({"step": step, **row})
        # a metric that is not a number is left out, as a gap
        self._unsent += [[name, value, now(), step] for name, value in row.items() if _finite(value)]
        if time.monotonic() - self._sent > FLUSH:
            self._flush()

    def finish(self, metrics: dict[str, Any]) -> None:
        """Write metrics.json, which must hold no wall times, and log its numbers under dotted names."""
        if runtime.first():
            files.write_json(self.folder / "metrics.json", metrics)
        self.metrics = numbers(metrics)
        last = int(self._rows[-1]["step"]) if self._rows else 0
        # of a metric and a curve of one name MLflow shows the value of the last step, and of the last moment there
        self._unsent += [[name, value, now() + 1, last] for name, value in self.metrics.items()]

    def warn(self, *texts: str) -> None:
        """Say what a person should look at; the record has all, the terminal the first few."""
        self.warnings += texts
        for text in [*texts[:SHOWN], *([f"and {len(texts) - SHOWN} more like it"] if len(texts) > SHOWN else [])]:
            _say(f"  warning: {text}", "yellow")

    def artifact(self, path: str | Path) -> None:
        """Log a file or folder to the MLflow run."""
        if self._writer:
            full = files.need(path).resolve()
            self._writer.send("artifact", path=str(full), folder=None)

    def checkpoint(self, step: int, scores: dict[str, float | None], folder: Path | None) -> None:
        """Log a checkpoint as a model with its scores. `folder`: its files, which are removed once they are logged."""
        if self._writer:
            tags = {"grandrounds.stage": self.stage, "grandrounds.item": self.item, checkpoints.IDENTITY: self.identity}
            name = "-".join(filter(None, (self.stage, self.item, f"step-{step}")))
            place = str(folder.resolve()) if folder else ""
            self._writer.send("checkpoint", name=name, step=step, time=now(), scores=scores, tags=tags, folder=place)

    def child(self, name: str, params: dict[str, Any], metrics: dict[str, float]) -> None:
        """Log one finished trial as a run of its own under this one."""
        if self._writer:
            tags = {"grandrounds.trial": run_name(self.stage, self.item)}
            self._writer.send("child", name=name, params=flat(params), metrics=numbers(metrics), tags=tags)

    def _flush(self) -> None:
        if self._writer and self._unsent:
            self._writer.send("metrics", rows=self._unsent)
        self._unsent, self._sent = [], time.monotonic()

    def _write_curves(self) -> None:
        if not self._rows:
            return
        names = list(dict.fromkeys(name for row in self._rows for name in row))
        with files.replacing(self.folder / "curves.csv") as temporary, temporary.open("w", newline="") as file:
            table = csv.DictWriter(file, names, lineterminator="\n")
            table.writeheader()
            table.writerows(self._rows)


@contextmanager
def stage_run(
    stage: str, item: str | None, params: Params, *, inputs: Sequence[str], outputs: Sequence[str]
) -> Iterator[StageRun]:
    """Run the block as one stage: one MLflow run, one run.json, one header and one closing line.

    `inputs` and `outputs` are data paths as dvc.yaml names them. An input that is missing is a UserError, before
    MLflow hears of the run. An exception marks the run FAILED, Ctrl-C and SIGTERM mark it KILLED; both go on upwards,
    and then neither run.json nor curves.csv is written.
    """
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True, quiet=not runtime.first())
    place = position(stage, item)
    head = f"[{place[0]}/{place[1]}] " if place else ""
    console.print(f"{head}{stage}{' ' + item if item else ''}", style="bold cyan", markup=False)
    for path in inputs:
        files.need(path)
    if not runtime.first():
        yield _beside_the_first(stage, item, params, inputs, outputs)
        return
    for made in (*map(Path, outputs), Path("reports", stage, item or "", "run.json")):
        files.writable(made)
    record = _record(stage, item, params, outputs)
    begin = time.monotonic()
    with sigterm_as_interrupt():
        record["inputs"] = _inputs(inputs)
        record["sources"] = _sources(inputs)
        writer = Writer(_start(record))
        run = StageRun(stage, item, params, writer)
        run.identity = _identity(record)
        try:
            yield run
        except BaseException as error:
            killed = isinstance(error, (KeyboardInterrupt, SystemExit))
            _close(run, writer, "KILLED" if killed else "FAILED")
            raise
        with _undisturbed():
            record["seconds"] = round(time.monotonic() - begin, 3)
            run._write_curves()
            record |= {"metrics": run.metrics, "warnings": run.warnings, "peak_mib": _peak_mib()}
            record["device"] = runtime.device(params) if "torch" in sys.modules else "cpu"
            files.write_json(run.folder / "run.json", record)  # a full disk shows before MLflow hears of a good end
            _close(run, writer, "FINISHED")
            record["mlflow_run_id"] = writer.run_id or ""
            files.write_json(run.folder / "run.json", record)
    if writer.problem:
        console.print(
            f"  warning: MLflow at {server.shown(store.tracking_uri())} has no whole record of this run "
            f"({writer.problem}); it is in {run.folder / 'run.json'}, from which `publish` restores it",
            style="yellow", markup=False,
        )  # fmt: skip
    closing = f"  done in {duration(record['seconds'])}, peak {record['peak_mib']:.0f} MiB"
    console.print(closing, style="dim", markup=False)


def _beside_the_first(
    stage: str, item: str | None, params: Params, inputs: Sequence[str], outputs: Sequence[str]
) -> StageRun:
    """The run as the other processes of a training see it: the same identity, and nothing is tracked or written."""
    run = StageRun(stage, item, params)
    run.identity = _identity(_record(stage, item, params, outputs) | {"inputs": _inputs(inputs)})
    return run


def _record(stage: str, item: str | None, params: Params, outputs: Sequence[str]) -> dict[str, Any]:
    return {
        "stage": stage,
        "item": item,
        "mlflow_run_id": "",
        "started": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "seed": params.seed,
        "params": sections(stage, item, params),
        "outputs": [lock.plain(path) for path in outputs],
        "versions": versions(),
        "git": git.state(),
        "threads": runtime.torch_threads(),
        "dvc": store.experiment_tags(),
    }


def _identity(record: dict[str, Any]) -> str:
    decides = {key: record[key] for key in ("stage", "item", "seed", "params", "inputs", "versions")}
    found = hashlib.sha256(json.dumps(decides, sort_keys=True).encode())
    package = Path(__file__).parent.parent
    for path in sorted(package.rglob("*.py")):
        found.update(path.read_bytes())
    return found.hexdigest()[:24]


def _inputs(paths: Sequence[str]) -> list[dict[str, Any]]:
    """Every input with DVC's md5; a folder of several stages' outputs (data/predictions) as its parts."""
    known = lock.read()
    flat = [part for path in paths for part in (known.parts(path) or [path])]
    # a part that is gone from the folder is still in dvc.lock until the stage ends
    entries = [lock.digest(path, lock=known) for path in dict.fromkeys(flat) if Path(path).exists()]
    files_in = [{} if entry.nfiles is None else {"nfiles": entry.nfiles} for entry in entries]
    return [{"path": entry.path, "md5": entry.md5, **more} for entry, more in zip(entries, files_in, strict=True)]


def _sources(paths: Sequence[str]) -> dict[str, str]:
    """Path -> md5 of each file in the input folders that no stage writes: later, one file can be asked for."""
    known = lock.read()
    own = [Path(path) for path in paths if known.producer(path) is None and not known.parts(path)]
    found = [file for path in own if path.is_dir() for file in lock.listed(path)]
    return {} if len(found) > LISTED else {lock.plain(file): lock.file_md5(file) for file in found}


def _start(record: dict[str, Any]) -> dict[str, Any]:
    """The message that opens the MLflow run."""
    name = run_name(record["stage"], record["item"])
    tags = {**run_tags(record), "host": socket.gethostname()}
    if parent := os.environ.get("GRANDROUNDS_PARENT_RUN"):
        tags["mlflow.parentRunId"] = parent
    return {"name": name, "time": now(), "params": flat(record["params"]), "inputs": record["inputs"],
            "sources": record["sources"], "tags": tags}  # fmt: skip


def run_name(stage: str, item: str | None) -> str:
    """DVC's own name of the stage: `adapt@pediatrics`."""
    return f"{stage}@{item}" if item else stage


def run_tags(record: dict[str, Any]) -> dict[str, str]:
    """The tags of a run that its run.json knows, so that a restored run has them too."""
    tags = {
        "grandrounds.stage": record["stage"],
        "grandrounds.item": record["item"] or "",
        "mlflow.source.name": f"python -m tasks.{record['stage']} {record['item'] or ''}".strip(),
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": record["git"]["commit"],
        "git.dirty": str(record["git"]["dirty"]).lower(),
        "threads": str(record["threads"]),
        **{f"version.{name}": version for name, version in record["versions"].items()},
        **record.get("dvc", {}),
    }
    return {name: value for name, value in tags.items() if value}


def _close(run: StageRun, writer: Writer, status: str) -> None:
    run._flush()
    writer.close(status)


def sections(stage: str, item: str | None, params: Params) -> dict[str, Any]:
    """What a stage's result depends on: seed, compute, prompts and its own section, of its items only its own."""
    whole = params.model_dump(mode="json")
    section = dict(whole[stage])
    key = ITEMS.get(stage)
    if key and item:
        section[key] = {item: section[key][item]}
    shared = ("seed", "compute", "prompts", *(("benchmarks",) if stage in ("curate", "predict", "judge") else ()))
    return {name: whole[name] for name in shared} | {stage: section}


def flat(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys joined by dots. Lists stay whole."""
    out: dict[str, Any] = {}
    for key, each in value.items():
        if isinstance(each, dict) and each:
            out |= flat(each, f"{prefix}{key}.")
        else:
            out[f"{prefix}{key}"] = each
    return out


def numbers(metrics: dict[str, Any]) -> dict[str, float]:
    """The finite numbers of nested metrics under dotted names that MLflow takes."""
    rows = flat(metrics)
    found = {key: float(value) for key, value in rows.items() if isinstance(value, (int, float)) and _finite(value)}
    return {re.sub(r"[^\w. /-]", "_", key)[:250]: value for key, value in found.items()}


def _finite(value: float) -> bool:
    return abs(value) < float("inf")  # False for nan too


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _peak_mib() -> float:
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """SIGTERM, as DVC, Prefect and `kill` send it, ends the block as Ctrl-C would."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with _handling({signal.SIGTERM: interrupt}):
        yield


@contextmanager
def _undisturbed() -> Iterator[None]:
    """A finished stage writes its record to the end; a signal then comes too late to undo it."""
    with _handling({signal.SIGTERM: signal.SIG_IGN, signal.SIGINT: signal.SIG_IGN}):
        yield


@contextmanager
def _handling(handlers: dict[int, Any]) -> Iterator[None]:
    try:
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    except ValueError:  # only the main thread may set handlers
        before = {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def task_main(stage: str, body: Callable[[Any, Params], None], items: bool) -> None:
    """`python -m tasks.<stage> [item]`: check item and params, prepare the process, run the body.

    A UserError, or a disk that is full or not ours to write, is one line. Exit codes: 0, 1, 130 after Ctrl-C.
    """
    try:
        with sigterm_as_interrupt():
            params = load()
            item = _item(stage, sys.argv[1:], params, items)
            runtime.prepare(params)
            if launch.wanted(stage, params.compute):
                sys.exit(launch.run(stage, sys.argv[1:], params.compute))
            body(item, params)
    except KeyboardInterrupt:
        _say(f"{stage}: interrupted; `dvc repro` goes on from here", "yellow")
        sys.exit(130)
    except Exception as error:
        told = error if isinstance(error, UserError) else of_disk(error)
        if told is None:
            raise
        _say(f"error: {told}", "red")
        sys.exit(1)


def _item(stage: str, given: list[str], params: Params, items: bool) -> str | None:
    usage = f"usage: python -m tasks.{stage}{' <item>' if items else ''}"
    if not items:
        if given:
            raise UserError(f"{usage}, but {' '.join(given)!r} was given")
        return None
    valid = getattr(getattr(params, stage), ITEMS[stage])
    if len(given) != 1:
        raise UserError(f"{usage}; items are {', '.join(valid)}")
    if given[0] not in valid:
        what = "arm" if stage == "predict" else f"{stage} item"
        raise UserError(f"params.yaml: {stage}.{ITEMS[stage]}: {unknown(what, given[0], valid)}")
    return given[0]


def _say(text: str, style: str) -> None:
    from rich.console import Console

    Console(stderr=True, highlight=False, soft_wrap=True).print(text, style=style, markup=False)
