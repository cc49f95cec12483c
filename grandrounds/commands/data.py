"""`grandrounds data`: sources of questions."""

from typing import Annotated

import typer

from grandrounds.errors import UserError

app = typer.Typer(no_args_is_help=True, help="Look at sources of questions before the pipeline does.")


@app.callback()
def _data() -> None:
    """So that `check` stays a command of its own while it is the only one."""


@app.command("check")
def check(
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
