"""`grandrounds doctor`: this machine and checkout, and what a recipe asks of a GPU."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console


def doctor(
    recipe: Annotated[str, typer.Option(help="Estimate the GPU memory that a recipe needs, instead.")] = "",
    memory: Annotated[float, typer.Option(min=0, help="GiB of a GPU to fit into; 0: of those found here.")] = 0.0,
    online: Annotated[bool, typer.Option("--online", help="Ask the model hub too whether it answers.")] = False,
) -> None:
    """Check this machine and checkout, and say how to mend what is wrong."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    if not (_fits(recipe, memory, console) if recipe else _healthy(console, online)):
        raise typer.Exit(1)


def _healthy(console: "Console", online: bool) -> bool:
    from rich.text import Text

    from grandrounds.doctor import examine

    bad = 0
    for each in examine(Path.cwd(), online):
        bad += each.state == "bad"
        style = {"ok": "green", "note": "yellow", "bad": "bold red"}[each.state]
        line = Text(f"{each.state:5}", style=style).append(f"{each.what}: {each.found}", style="default")
        console.print(line.append(f"\n       -> {each.mend}", style="default") if each.mend else line)
    return not bad


def _fits(recipe: str, memory: float, console: "Console") -> bool:
    """Print a table of what each stage asks of a GPU, in GiB; whether all of it fits (True where no limit is known)."""
    from rich.table import Table

    from grandrounds import fitting, recipes
    from grandrounds.domain.memory import GIB
    from grandrounds.params import check

    path = recipes.find(recipe)
    params = check(recipes.read(path), str(path))
    found = fitting.gpus()
    limit = memory * GIB or (min(found) if found else None)
    needed = list(fitting.needs(params, limit))
    table = Table("stage", "GiB", "of which", "", box=None, pad_edge=False)
    for need in needed:
        parts = [f"{name} {size / GIB:.1f}" for name, size in need.bytes.items() if name != "total" and size]
        fits = "" if limit is None else "does not fit" if need.lower else "fits"
        table.add_row(need.stage, f"{need.bytes['total'] / GIB:.1f}", ", ".join(parts), fits)
    console.print(table)
    for need in needed:
        if need.lower:
            console.print(f"{need.stage}: lower {need.lower}", markup=False)
    if limit is None:
        console.print("no GPU here to compare with: --memory 40 compares with one of 40 GiB")
    else:
        console.print(f"compared with {limit / GIB:.0f} GiB; an estimate by arithmetic, not a measurement")
    return not any(need.lower for need in needed)
