"""`grandrounds human`: answers rated by people."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from grandrounds.errors import UserError, unknown

if TYPE_CHECKING:
    from grandrounds.params import Params
    from grandrounds.records import Prediction, Question

app = typer.Typer(no_args_is_help=True, help="Have people rate answers, and see how far they and the judges agree.")

Name = Annotated[str, typer.Option("--name", help="Of the sheet: small letters, digits, - and _.")]
PROMPT = "reasoning"


@app.command("export")
def export(
    name: Name = "sheet",
    arms: Annotated[list[str] | None, typer.Option("--arm", help="Whose answers; repeatable. None: all arms.")] = None,
    questions: Annotated[int, typer.Option(min=1, help="Drawn at random; a row for each and each arm.")] = 20,
    split: Annotated[str, typer.Option(help="Their set.")] = "test",
    out: Annotated[Path | None, typer.Option(help="Folder for what the raters get. None: .scratch/human.")] = None,
) -> None:
    """Make a blinded, shuffled rating sheet: a CSV to fill in and a page that shows each row. Its key stays here."""
    from grandrounds.params import load
    from grandrounds.reporting import ratings, sheets

    params = load()
    _sheet(name)
    wanted = arms or list(params.predict.arms)
    for arm in wanted:
        if arm not in params.predict.arms:
            raise unknown("arm", arm, params.predict.arms)
    asked = _questions(split)
    answers = {arm: [row for row in _predictions(arm) if row.split == split and row.prompt == PROMPT] for arm in wanted}
    cases = sheets.draw(name, asked, answers, questions, params.seed)
    if not cases:
        raise UserError(f"data/predictions: no question of {split} was answered by all of {', '.join(wanted)}")
    folder = out or Path(".scratch/human")
    sheets.write(Path(), name, cases, params.seed, folder)
    drawn = len(cases) // len(wanted)
    typer.echo(f"{len(cases)} rows ({drawn} questions of {split}, {len(wanted)} arms): {folder / name}.csv and .html")
    typer.echo(f"the key is {ratings.FOLDER / name}.json: commit it, and keep it from the raters")
    closed = _closed_sources({question.source for question, _ in cases})
    if closed:
        typer.echo(f"warning: {', '.join(closed)} may not be handed on: raters must be in your house", err=True)


@app.command("import")
def import_(
    path: Annotated[Path, typer.Argument(metavar="SHEET.csv", help="As a rater filled it in.")],
    rater: Annotated[str, typer.Option(help="r1, r2, ...: no names; who that is stays with you.")],
    name: Annotated[str, typer.Option("--name", help="Of the sheet; none: the name of the file.")] = "",
) -> None:
    """Check a filled-in sheet, row by row, and keep its scores in data/ratings."""
    from grandrounds.params import load
    from grandrounds.reporting import ratings, sheets

    if not ratings.RATER.fullmatch(rater):
        raise UserError(f"--rater {rater}: must be r1, r2, ...: a rater's name does not belong into the project")
    name = _sheet(name or path.stem)
    asked = ratings.key_of(ratings.FOLDER / f"{name}.json")
    rows = {
        (row.arm, row.split, row.prompt, row.question_id): row for row in _all(load(), {each.arm for each in asked})
    }
    known = {
        question.id: question for split in {each.split for each in asked} for question in _questions(split).values()
    }
    shown = {
        each.row: sheets.cells(0, each.row, known[each.question_id], rows[each.key])
        for each in asked
        if each.question_id in known and each.key in rows and ratings.digest(rows[each.key]) == each.digest
    }
    rated, empty = sheets.take(Path(), name, path, rater, shown)
    target = ratings.FOLDER / f"{name}.{rater}.csv"
    typer.echo(f"{rated} rated, {empty} left empty: {target}; `dvc repro publish` brings them into the report")


@app.command("agreement")
def agreement() -> None:
    """Show how far raters agree with each other, with each judge and with the verifier."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from grandrounds.params import load
    from grandrounds.reporting.blocks import Table as Printed
    from grandrounds.reporting.blocks import Text as Said
    from grandrounds.reporting.collect import collect
    from grandrounds.reporting.sections import people

    section = people.section(collect(Path(), load()))
    console = Console(highlight=False)
    if not console.is_terminal:  # a log has no width; 80 columns would fold every cell
        console.width = 160
    for block in section.blocks:
        if isinstance(block, Printed):
            table = Table(title=block.title, title_justify="left", box=None, pad_edge=False)
            for column in block.columns:
                table.add_column(column, overflow="fold")
            for row in block.rows:
                table.add_row(*map(Text, row.cells))
            console.print(table)
        elif isinstance(block, Said):
            console.print(f"{block.lead} {block.text}".strip(), markup=False)


def _sheet(name: str) -> str:
    from grandrounds.reporting.ratings import SHEET

    if not SHEET.fullmatch(name):
        raise UserError(f"--name '{name}': small letters, digits, - and _ are allowed, 40 at most")
    return name


def _questions(split: str) -> "dict[str, Question]":
    from grandrounds import files
    from grandrounds.records import Question

    benchmark = Path("data/curated/benchmarks", f"{split}.parquet")
    path = benchmark if benchmark.is_file() else Path("data/curated", f"{split}.parquet")
    return {question.id: question for question in files.read(path, Question)}


def _predictions(arm: str) -> "list[Prediction]":
    from grandrounds import files
    from grandrounds.records import Prediction

    return files.read(f"data/predictions/{arm}.parquet", Prediction)


def _all(params: "Params", arms: set[str]) -> "list[Prediction]":
    return [row for arm in params.predict.arms if arm in arms for row in _predictions(arm)]


def _closed_sources(used: set[str]) -> list[str]:
    """Sources in use whose licence forbids handing their questions on."""
    from grandrounds import files

    path = Path("reports/curate/metrics.json")
    sources = files.read_json(path).get("sources") or {} if path.is_file() else {}
    return sorted(name for name in used if not (sources.get(name) or {}).get("redistribute", True))
