"""`grandrounds`: what a person types. Heavy libraries are imported by the command that needs them."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from grandrounds.commands import (
    ablate,
    compare,
    data,
    delivery,
    doctor,
    human,
    lineage,
    merge,
    pipeline,
    recipe,
    registry,
)
from grandrounds.errors import UserError, of_disk
from grandrounds.params import root
from grandrounds.tracking import server, store

app = typer.Typer(
    name="grandrounds",
    help="Train medical vision-language models to reason, so that anyone gets the same bytes again.\n\n"
    "Research only, never for clinical use.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(show: bool) -> None:
    if show:
        from grandrounds import __version__

        typer.echo(f"grandrounds {__version__}")
        raise typer.Exit


@app.callback()
def _start(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    context.obj = Path.cwd()  # for commands whose paths are not the project's
    os.chdir(root())  # so that every command works from a folder below


# In the order that the help lists them.
app.command()(pipeline.plan)
app.command()(pipeline.run)
app.command()(ablate.ablate)
app.command()(lineage.lineage)
app.command()(lineage.verify)
for command in (registry.pick, registry.promote, registry.rollback, registry.restore, delivery.export, delivery.ask):
    app.command()(command)
app.command()(merge.merge)
app.command()(compare.compare)
app.command()(doctor.doctor)
app.command()(pipeline.ui)
app.command()(pipeline.serve)
app.add_typer(recipe.app, name="recipe")
app.add_typer(data.app, name="data")
app.add_typer(human.app, name="human")


def main() -> None:
    """The console script: a mistake that the user can mend is one red line on stderr and exit code 1."""
    try:
        server.asking(store.tracking_uri)(app)()
    except Exception as error:
        told = error if isinstance(error, UserError) else of_disk(error)
        if told is None:
            raise
        red, plain = ("\x1b[31m", "\x1b[0m") if sys.stderr.isatty() and "NO_COLOR" not in os.environ else ("", "")
        print(f"{red}error: {told}{plain}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
