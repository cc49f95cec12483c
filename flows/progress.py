"""What a person sees while the flow runs: a line when a stage starts and ends, and on a terminal a live bar."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flows.plan import Planned
from flows.processes import cause, last_line, log_path

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID
    from rich.table import Table

EVERY = 20.0  # seconds between two signs of life of a running stage where there is no terminal
STYLES = {
    "ran": "green",
    "restored": "cyan",
    "unchanged": "dim",
    "failed": "bold red",
    "not run": "yellow",
    "stopped": "yellow",
}


class Progress:
    """Lines for starts and ends; between them a live bar (terminal) or a sign of life now and then (log)."""

    def __init__(self, root: Path, total: int, console: "Console | None" = None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bars

        self._root, self._total = root, total
        self._console = console = console or Console(highlight=False)
        self._number = 0
        self._started: dict[str, float] = {}
        self._said: dict[str, float] = {}
        self._rows: dict[str, TaskID] = {}
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        self._bars = Bars(*columns, TextColumn("{task.fields[left]}", markup=False), console=console, transient=True)
        self._all = self._bars.add_task("stages", total=total, left="")

    def __enter__(self) -> "Progress":
        if self._console.is_terminal:
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def start(self, name: str, threads: int, guess: float) -> None:
        self._number += 1
        self._started[name] = self._said[name] = time.monotonic()
        cores = f"{threads} core" + ("s" if threads > 1 else "")
        self._console.print(f"[{self._number}/{self._total}] {name} started ({cores})", style="bold", markup=False)
        self._rows[name] = self._bars.add_task(f"  {name}", total=max(1, round(guess)), left="")

    def end(self, name: str, outcome: str) -> None:
        seconds = time.monotonic() - self._started.pop(name)
        log = f"; see {log_path(self._root, name).relative_to(self._root)}" if outcome == "failed" else ""
        text = f"    {name} {outcome} in {seconds:.1f} s{log}"
        self._console.print(text, style=STYLES.get(outcome, ""), markup=False, soft_wrap=True)
        self._bars.remove_task(self._rows.pop(name))
        self._bars.advance(self._all)

    def elapsed(self) -> dict[str, float]:
        """Seconds since each running stage started."""
        now = time.monotonic()
        return {name: now - started for name, started in self._started.items()}

    def tick(self, left: float) -> None:
        """Call every second or so; `left`: seconds that the rest is expected to take."""
        now = time.monotonic()
        self._bars.update(self._all, left=f"about {_clock(left)} left" if left > 0 else "")
        for name, started in self._started.items():
            line = last_line(log_path(self._root, name))[:60]
            self._bars.update(self._rows[name], completed=now - started, left=line)
            if not self._console.is_terminal and now - self._said[name] >= EVERY:
                self._said[name] = now
                self._console.print(f"    {name} {now - started:.0f} s: {line}", markup=False, soft_wrap=True)


def _clock(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def plan_table(plan: Sequence[Planned]) -> "Table":
    """The plan by wave; stages that would run are bold."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    running = sum(each.action == "run" for each in plan)
    title = f"{running} of {len(plan)} stages would run"
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("wave", "stage", "", "why"):
        table.add_column(heading, overflow="fold")
    last = -1
    for each in plan:
        if last not in (-1, each.wave):
            table.add_section()
        style = "bold" if each.action == "run" else "dim"
        wave = str(each.wave) if each.wave != last else ""
        table.add_row(*(Text(text, style=style) for text in (wave, each.name, each.action, each.reason)))
        last = each.wave
    return table


def summary_table(plan: Sequence[Planned], outcomes: Mapping[str, tuple[str, float]]) -> "Table":
    """Stage, outcome, seconds. Stages that were unchanged from the start stand in the last line only."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("stage")
    table.add_column("outcome")
    table.add_column("seconds", justify="right")
    untouched = 0
    for each in plan:
        outcome, seconds = outcomes.get(each.name, ("unchanged", 0.0))
        if outcome == "unchanged" and not seconds:
            untouched += 1
            continue
        time_taken = f"{seconds:.1f}" if seconds else ""
        table.add_row(each.name, Text(outcome, style=STYLES.get(outcome.split(":")[0], "")), time_taken)
    if untouched:
        table.add_section()
        table.add_row(f"{untouched} more", Text("unchanged", style="dim"), "")
    return table


def report(plan: Sequence[Planned], outcomes: Mapping[str, tuple[str, float]], root: Path) -> None:
    """Print the summary table and, for each failed stage, why it failed and its log."""
    from rich.console import Console

    console = Console(highlight=False)
    console.print(summary_table(plan, outcomes))
    for name in (name for name, (how, _) in outcomes.items() if how == "failed"):
        log = log_path(root, name)
        text = f"{name} failed: {cause(log)}\n  log: {log.relative_to(root)}"
        console.print(text, style="red", markup=False, soft_wrap=True)
