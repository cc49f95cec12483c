"""What a run leaves in the Prefect UI beside its states: how far it is, a table of its stages, the report.

An artifact is for reading. One that cannot be written costs a warning in the log, never the run.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import get_run_logger
from prefect.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact

from flows.plan import Planned
from grandrounds.errors import UserError
from grandrounds.files import read_json
from grandrounds.tracking import lock

REPORT = Path("reports/report.md")
LONGEST = 500_000  # characters of a report that the UI still shows at ease


class Bar:
    """The share of stages that are done, as a progress artifact."""

    def __init__(self, total: int, what: str) -> None:
        self._total = total
        self._id: UUID | None = _attempt(create_progress_artifact, 0.0, key="progress", description=what)

    def show(self, done: int, what: str) -> None:
        if self._id is not None:
            share = 100.0 * done / self._total if self._total else 100.0
            _attempt(update_progress_artifact, artifact_id=self._id, progress=share, description=what)


def stage_table(plan: Sequence[Planned], outcomes: Mapping[str, tuple[str, float]], root: Path, said: str) -> None:
    """The artifact `stages`: what became of each stage, in the plan's order."""
    _attempt(_write_table, plan, outcomes, root, said)


def report(outcomes: Mapping[str, tuple[str, float]], root: Path) -> None:
    """The artifact `report`, when this run has written one."""
    if any(how in ("ran", "restored") for name, (how, _) in outcomes.items() if name == "publish"):
        publish_report(root / REPORT, f"{REPORT}; with figures and the case browser: {REPORT.with_suffix('.html')}")


def publish_report(path: Path, said: str) -> None:
    def write() -> None:
        text = path.read_text(encoding="utf-8")
        cut = "" if len(text) <= LONGEST else f"\n\n(cut here; the whole is in {path.name})"
        create_markdown_artifact(text[:LONGEST] + cut, key="report", description=said)

    _attempt(write)


def note(key: str, text: str, said: str) -> None:
    """A markdown artifact of any kind."""
    _attempt(create_markdown_artifact, text, key=key, description=said)


def _write_table(
    plan: Sequence[Planned], outcomes: Mapping[str, tuple[str, float]], root: Path, said: str
) -> None:  # fmt: skip
    locked, link = lock.read(root).stages, _mlflow()
    lines = ["| stage | what happened | seconds | MLflow run | outputs (md5) |", "|---|---|---:|---|---|"]
    for each in plan:
        how, seconds = outcomes.get(each.name, ("not run", 0.0))
        outs = locked[each.name].outs if each.name in locked else {}
        files = [f"{path} `{out.md5}`" for path, out in outs.items() if not path.startswith("reports/")]
        cells = (
            each.name,
            how,
            f"{seconds:.1f}" if seconds else "",
            _run(root, list(outs), link),
            "<br>".join(files),
        )
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    create_markdown_artifact("\n".join(lines), key="stages", description=said)


def _run(root: Path, outs: Sequence[str], link: str) -> str:
    """The run that made what is there now: of a stage that is unchanged or restored, an older one."""
    told = next((root / out for out in outs if out.endswith("/run.json")), None)
    if told is None or not told.is_file():
        return ""
    run = str(read_json(told).get("mlflow_run_id") or "")
    return f"[{run[:8]}]({link}/runs/{run})" if link and run else run[:8]


def _mlflow() -> str:
    """The address of our experiment's page, or "" where MLflow is a file and has none."""
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if not uri.startswith("http"):
        return ""
    from grandrounds.tracking import server, store

    try:
        _, experiment = store.connect()
    except UserError:
        return ""
    return f"{server.shown(uri).rstrip('/')}/#/experiments/{experiment}"


def _attempt(write: Callable[..., Any], *given: Any, **named: Any) -> Any:
    try:
        return write(*given, **named)
    except Exception as error:
        get_run_logger().warning("an artifact was not written: %s: %s", type(error).__name__, error)
        return None
