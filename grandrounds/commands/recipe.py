"""`grandrounds recipe`: whole settings."""

from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="List, show, take and compare whole settings (recipes/*.yaml).")


@app.command("list")
def list_() -> None:
    """All recipes; the one that params.yaml holds now is marked."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from grandrounds.recipes import listing

    table = Table(box=None, pad_edge=False, show_header=False)
    for each in listing():
        note = Text(each.problem, style="red") if each.problem else Text(each.about)
        table.add_row("*" if each.current else " ", Text(each.name, style="bold" if each.current else ""), note)
    Console(highlight=False).print(table)


@app.command("show")
def show(name: Annotated[str, typer.Argument(help="As in `recipe list`.")]) -> None:
    """Print a recipe."""
    from grandrounds.recipes import find

    typer.echo(find(name).read_text(encoding="utf-8"), nl=False)


@app.command("use")
def use(name: Annotated[str, typer.Argument(help="As in `recipe list`.")]) -> None:
    """Check a recipe and make it params.yaml; an edited params.yaml is kept as params.yaml.bak."""
    from grandrounds.recipes import use

    backup = use(name)
    kept = f"; what it was before is in {backup}" if backup else ""
    typer.echo(f"params.yaml is now the recipe '{name}'{kept}")
    typer.echo("`grandrounds plan` shows what that changes")


@app.command("diff")
def diff(
    name: Annotated[str, typer.Argument(help="As in `recipe list`.")],
    other: Annotated[str, typer.Argument(help="Another recipe; none: params.yaml as it is.")] = "",
) -> None:
    """Show where params.yaml, or another recipe, differs from a recipe."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from grandrounds.recipes import PARAMS, difference, find

    second = find(other) if other else PARAMS
    rows = difference(find(name), second)
    if not rows:
        typer.echo(f"{second} says the same as {find(name)}")
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("key", str(find(name)), str(second)):
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    Console(highlight=False).print(table)
