"""`grandrounds`: what a person types. Heavy libraries are imported by the command that needs them."""

import dataclasses
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from grandrounds.errors import UserError
from grandrounds.params import root

if TYPE_CHECKING:
    from grandrounds.tracking.lineage import Lineage

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
recipe_app = typer.Typer(no_args_is_help=True, help="List, show, take and compare whole settings (recipes/*.yaml).")
app.add_typer(recipe_app, name="recipe")
data_app = typer.Typer(no_args_is_help=True, help="Look at sources of questions before the pipeline does.")
app.add_typer(data_app, name="data")

Stages = Annotated[
    list[str] | None,
    typer.Argument(metavar="[STAGES]...", help="Stages with all they need, such as 'judge' or 'grpo@rarl'; none: all."),
]
Force = Annotated[bool, typer.Option("--force", "-f", help="Run stages even when nothing changed.")]
Workers = Annotated[int, typer.Option("--workers", "-w", min=1, help="Stages at once; cores are shared out.")]


def _version(show: bool) -> None:
    if show:
        from grandrounds import __version__

        typer.echo(f"grandrounds {__version__}")
        raise typer.Exit


@app.callback()
def _start(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    os.chdir(root())  # so that every command works from a folder below


@app.command()
def plan(stages: Stages = None, force: Force = False) -> None:
    """Show the stages in waves: which would run, and why."""
    from rich.console import Console

    from flows.plan import make
    from flows.progress import plan_table

    Console(highlight=False).print(plan_table(make(stages or (), force=force)))


@app.command()
def run(stages: Stages = None, workers: Workers = 2, force: Force = False) -> None:
    """Reproduce what changed through Prefect, some stages at a time.

    The same as `dvc repro`, in parallel. Logs are in .scratch/logs/. Ctrl-C keeps what had finished.
    """
    from flows.plan import make

    todo = make(stages or (), force=force)
    running = sum(each.action == "run" for each in todo)
    if not running:
        typer.echo(f"all {len(todo)} stages are unchanged; nothing to run (--force runs them all the same)")
        return
    typer.echo(f"{running} of {len(todo)} stages to run, {workers} at a time; starting Prefect ...")
    folder = Path.cwd()
    from flows import server, settings

    settings.prepare(folder, quiet=True)
    wait = server.start_temporary_server(folder)
    from flows import pipeline

    wait()
    try:
        done = pipeline.run(stages or (), force=force, workers=workers)
    except KeyboardInterrupt:
        typer.echo("stopped; what had finished is kept, and the next run goes on from there", err=True)
        raise typer.Exit(130) from None
    if not done:
        raise typer.Exit(1)


@app.command()
def lineage(
    model: Annotated[str, typer.Argument(metavar="MODEL@ALIAS", help="Such as grandrounds@champion.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for a program.")] = False,
) -> None:
    """Show which bytes a registered model came from: runs, commits and data hashes, down to the sources."""
    name, at, alias = model.rpartition("@")
    if not (at and name and alias):
        raise UserError(f"'{model}': expected MODEL@ALIAS, such as grandrounds@champion")
    from grandrounds.tracking.lineage import render, walk

    found = walk(name, alias)
    if as_json:
        import json

        typer.echo(json.dumps(lineage_json(found), indent=1, ensure_ascii=False, default=str))
        return
    from rich.console import Console

    Console(highlight=False, soft_wrap=True).print(render(found))


def lineage_json(found: "Lineage") -> dict[str, Any]:
    """A lineage as plain values: each run once, its inputs naming the run that wrote them."""

    def edge(each: Any) -> dict[str, Any]:
        return {"path": each.path, "md5": each.md5, "run_id": each.node.run_id if each.node else None}

    def node(each: Any) -> dict[str, Any]:
        plain = {field.name: getattr(each, field.name) for field in dataclasses.fields(each) if field.name != "inputs"}
        return {**plain, "inputs": [edge(one) for one in each.inputs]}

    head = {"model": found.model, "version": found.version, "alias": found.alias, "arm": found.arm}
    return {
        **head,
        "root": edge(found.root),
        "runs": [node(each) for each in found.nodes()],
        "sources": [edge(each) for each in found.sources()],
    }


@recipe_app.command("list")
def recipe_list() -> None:
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


@recipe_app.command("show")
def recipe_show(name: Annotated[str, typer.Argument(help="As in `recipe list`.")]) -> None:
    """Print a recipe."""
    from grandrounds.recipes import find

    typer.echo(find(name).read_text(encoding="utf-8"), nl=False)


@recipe_app.command("use")
def recipe_use(name: Annotated[str, typer.Argument(help="As in `recipe list`.")]) -> None:
    """Check a recipe and make it params.yaml; an edited params.yaml is kept as params.yaml.bak."""
    from grandrounds.recipes import use

    backup = use(name)
    kept = f"; what it was before is in {backup}" if backup else ""
    typer.echo(f"params.yaml is now the recipe '{name}'{kept}")
    typer.echo("`grandrounds plan` shows what that changes")


@recipe_app.command("diff")
def recipe_diff(
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


@data_app.callback()
def _data() -> None:
    """So that `check` stays a command of its own while it is the only one."""


@data_app.command("check")
def data_check(
    source: Annotated[str, typer.Argument(metavar="[SOURCE]", help="Its name in curate.sources of params.yaml.")] = "",
    type_: Annotated[str, typer.Option("--type", help="Of a source that params.yaml has not: slake, table, ...")] = "",
    path: Annotated[str, typer.Option(help="Its folder or file.")] = "",
    role: Annotated[str, typer.Option(help="The split that it would feed: train, test or unseen.")] = "train",
    columns: Annotated[
        list[str] | None, typer.Option("--column", metavar="OURS=THEIRS", help="Which column holds what; repeatable.")
    ] = None,
    cleared: Annotated[bool, typer.Option("--cleared", help="DICOM: no tag and no pixel names a patient.")] = False,
    limit: Annotated[int, typer.Option(min=0, help="Rows to read; 0: all.")] = 0,
    show: Annotated[int, typer.Option(min=0, help="Questions to show.")] = 3,
) -> None:
    """Read a source as curate would, and say what it gives. Writes nothing; exit code 1 when too much is unusable."""
    from rich.console import Console

    from grandrounds import checking
    from grandrounds.params import load

    if bool(source) == bool(type_):
        raise UserError("data check: needs the name of a source in params.yaml, or --type and --path")
    params = load()
    if source:
        spec = checking.named(params, source)
    else:
        said = {"columns": dict(each.partition("=")[::2] for each in columns or ()), "cleared": cleared}
        given = {key: value for key, value in said.items() if value}
        spec = checking.described(type_, {"path": path or None, "role": role, **given})
    if limit:
        spec = spec.model_copy(update={"limit": limit})
    taken = checking.examine(source or type_, spec, params.curate)
    console = Console(highlight=False, soft_wrap=True, markup=False)
    for what, found in checking.facts(spec, taken, params.curate):
        console.print(f"{what:14}{found}")
    for number, question in enumerate(taken.questions[:show], 1):
        console.print(f"\nquestion {number}\n{checking.shown(question)}")
    if taken.quarantine:
        console.print("\nquarantined")
        console.print(checking.reasons(taken.quarantine))
    if len(taken.quarantine) > params.curate.quarantine_share * taken.read:
        raise UserError("too much is unusable: curate would stop here; mend the rows, or raise curate.quarantine_share")


@app.command()
def doctor() -> None:
    """Check this machine and checkout, and say how to mend what is wrong."""
    from rich.console import Console
    from rich.text import Text

    from grandrounds.doctor import examine

    console = Console(highlight=False, soft_wrap=True)
    bad = 0
    for each in examine(Path.cwd()):
        bad += each.state == "bad"
        style = {"ok": "green", "note": "yellow", "bad": "bold red"}[each.state]
        line = Text(f"{each.state:5}", style=style).append(f"{each.what}: {each.found}", style="default")
        console.print(line.append(f"\n       -> {each.mend}", style="default") if each.mend else line)
    if bad:
        raise typer.Exit(1)


@app.command()
def ui(
    prefect_port: Annotated[int, typer.Option(min=1, max=65535, help="Taken by another: a free one is used.")] = 4200,
    mlflow_port: Annotated[int, typer.Option(min=1, max=65535, help="Taken by another: a free one is used.")] = 5000,
) -> None:
    """Start the Prefect and MLflow servers on loopback, until Ctrl-C."""
    from flows.serve import ui as start

    start(Path.cwd(), prefect_port, mlflow_port)


@app.command()
def serve(
    cron: Annotated[str, typer.Option(help="When to run by itself, such as '0 3 * * 1'; none: only on demand.")] = "",
    workers: Workers = 2,
) -> None:
    """Serve the flow to the Prefect UI from this process: on demand, and on a schedule."""
    from flows.serve import serve as start

    start(Path.cwd(), cron or None, workers)


def main() -> None:
    """The console script: a mistake that the user can mend is one red line on stderr and exit code 1."""
    try:
        app()
    except UserError as error:
        red, plain = ("\x1b[31m", "\x1b[0m") if sys.stderr.isatty() and "NO_COLOR" not in os.environ else ("", "")
        print(f"{red}error: {error}{plain}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
