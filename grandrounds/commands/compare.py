"""`grandrounds compare`: two runs side by side."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from grandrounds.comparing import Change, Difference

SHORT = 10  # characters of an md5
Run = Annotated[str, typer.Argument(help="Git revision, DVC experiment, MLflow run id, or 'workspace'.")]


def compare(
    run_a: Run,
    run_b: Run = "workspace",
    outputs: Annotated[bool, typer.Option("--outputs", help="Only outputs; exit code 1 when any differs.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for a program.")] = False,
) -> None:
    """Show what differs between two runs: settings, inputs, outputs byte by byte, and every arm's accuracy."""
    from rich.console import Console

    from grandrounds import comparing

    first, second = (comparing.resolve(name, Path.cwd()) for name in (run_a, run_b))
    made = (comparing.outputs(first), comparing.outputs(second))
    differing = comparing.differences(*made)
    told = f"{len({**made[0], **made[1]})} outputs, {len(differing)} differ"
    if outputs and not as_json:
        for each in differing:
            typer.echo(f"{each.name}: {_short(each.first)} -> {_short(each.second)}")
        typer.echo(told)
        raise typer.Exit(1 if differing else 0)
    settings = comparing.differences(first.params, second.params)
    read = comparing.differences(comparing.sources(first), comparing.sources(second))
    changes = [] if outputs else comparing.changes(first, second, int(second.params.get("seed", 0)))
    if as_json:
        import dataclasses
        import json

        found = {"first": first.commit, "second": second.commit, "outputs": len({**made[0], **made[1]})}
        lists = {"differing_outputs": differing, "params": settings, "inputs": read}
        plain = {name: [dataclasses.asdict(each) for each in rows] for name, rows in lists.items()}
        accuracy = [{**dataclasses.asdict(each), "verdict": each.verdict} for each in changes]
        typer.echo(json.dumps({**found, **plain, "accuracy": accuracy}, indent=1))
        raise typer.Exit(1 if outputs and differing else 0)
    console = Console(highlight=False)
    if not console.is_terminal:  # a log has no width; 80 columns would fold every cell
        console.width = 140
    names = (first.name, second.name)
    _table(console, "settings (params.yaml)", names, settings)
    _table(console, "what was read: code and sources", names, read, short=True)
    _table(console, f"what was written: {told}", names, differing, short=True)
    _accuracy(console, names, changes)


def _short(md5: str) -> str:
    return md5[:SHORT] + ("…" if len(md5) > SHORT else "") or "(not there)"


def _table(
    console: "Console", title: str, names: tuple[str, str], rows: "list[Difference]", short: bool = False
) -> None:
    from rich.table import Table
    from rich.text import Text

    console.print(f"\n{title}", style="bold", markup=False)
    if not rows:
        console.print("no difference")
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("", *names):
        table.add_column(Text(heading), overflow="fold")
    for row in rows:
        cells = (_short(row.first), _short(row.second)) if short else (row.first or "–", row.second or "–")
        table.add_row(Text(row.name), *map(Text, cells))
    console.print(table)


def _accuracy(console: "Console", names: tuple[str, str], changes: "list[Change]") -> None:
    from rich.table import Table
    from rich.text import Text

    console.print("\naccuracy, %, under the reasoning prompt", style="bold")
    if not changes:
        console.print("neither has reports/judge/metrics.json")
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("arm", "set", *names, "points, 95 % interval", "n", "groups", "that is"):
        table.add_column(Text(heading), justify="left" if heading in ("arm", "set", "that is") else "right")
    for each in changes:
        points = _points(each.difference)
        points += f" [{_points(each.low)}, {_points(each.high)}]" if each.low is not None else ""
        counts = (str(each.n), str(each.groups)) if each.n else ("–", "–")
        row = (each.arm, each.split, _percent(each.first), _percent(each.second), points, *counts, each.verdict)
        table.add_row(*map(Text, row))
    console.print(table)


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def _points(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:+.1f}"
