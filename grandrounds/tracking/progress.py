"""A bar with rate and time left on a terminal; in a log, one line about every ten seconds."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

EVERY = 10.0  # seconds between two lines of a log


class Advance(Protocol):
    """Say that `n` more are done. Fields are figures to show beside the bar: `advance(8, loss=0.41)`."""

    def __call__(self, n: int = 1, **fields: float | str) -> None: ...


@contextmanager
def progress(total: int, description: str) -> Iterator[Advance]:
    """Show how far a loop of `total` rounds is, with its rate and the time left."""
    with _bar(total, description) if sys.stdout.isatty() else _lines(total, description) as advance:
        yield advance


@contextmanager
def _bar(total: int, description: str) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("  {task.description}", markup=False),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}", markup=False),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}", markup=False),
    )
    with Progress(*columns, console=Console(), transient=True) as bar:
        task = bar.add_task(description, total=total, rate="", figures="")
        pace = _Pace(total)

        def advance(n: int = 1, **fields: float | str) -> None:
            pace.add(n)
            bar.update(task, completed=pace.done, rate=pace.rate(), figures=_figures(fields))

        yield advance


@contextmanager
def _lines(total: int, description: str) -> Iterator[Advance]:
    pace = _Pace(total)
    last = time.monotonic()

    def advance(n: int = 1, **fields: float | str) -> None:
        nonlocal last
        pace.add(n)
        now = time.monotonic()
        if now - last >= EVERY:
            last = now
            parts = [f"  {description}: {pace.done}/{total}", pace.rate(), pace.left(), _figures(fields)]
            print("  ".join(part for part in parts if part), flush=True)

    yield advance


class _Pace:
    """Rate since the start, and what it leaves to wait."""

    def __init__(self, total: int) -> None:
        self.total, self.done, self.start = total, 0, time.monotonic()

    def add(self, n: int) -> None:
        self.done += n

    def per_second(self) -> float:
        return self.done / max(time.monotonic() - self.start, 1e-6)

    def rate(self) -> str:
        value = self.per_second()
        return f"{value:.1f}/s" if value >= 1 else f"{1 / value:.1f} s each" if value > 0 else ""

    def left(self) -> str:
        value = self.per_second()
        return f"{duration((self.total - self.done) / value)} left" if value > 0 else ""


def _figures(fields: dict[str, float | str]) -> str:
    shown = {key: f"{value:.4g}" if isinstance(value, float) else value for key, value in fields.items()}
    return "  ".join(f"{key} {value}" for key, value in shown.items())


def duration(seconds: float) -> str:
    """`8.4 s`, `3 min 05 s`, `2 h 10 min`."""
    if seconds < 60:
        return f"{max(seconds, 0):.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
