"""Rating sheets: answers without their arms' names, in random order, as a CSV to fill in and a page to look at.

What comes back is held against what was given out, cell by cell: a row that is missing, doubled, foreign or edited is
named and refused. Spreadsheets run cells that begin like a formula, and a model may write one: such cells are given an
apostrophe.
"""

import csv
import hashlib
import io
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from grandrounds import files
from grandrounds.domain.judging import reasoning_applies
from grandrounds.errors import UserError, one_line
from grandrounds.records import Prediction, Question
from grandrounds.reporting.browser import thinking, thumbnail
from grandrounds.reporting.escaping import visible
from grandrounds.reporting.html import TEMPLATES
from grandrounds.reporting.ratings import COLUMNS, FOLDER, Asked, digest, key_of, score

SHOWN = ("number", "row", "question", "options", "reference", "explanation", "thinking", "answer")
GIVEN = ("final", "reasoning")
NOT_ASKED = "n/a"
SIDE = 1024  # pixels of the longer side of an image on the page

Case = tuple[Question, Prediction]


def draw(
    name: str, questions: Mapping[str, Question], answers: Mapping[str, Sequence[Prediction]], count: int, seed: int
) -> list[Case]:
    """The answers of all given arms to `count` questions, in random order. All arms must have answered a question.

    Another sheet draws other questions: the name is part of the seed.

    Questions are drawn without regard to whether they were answered rightly, so that people's means are estimates.
    """
    by = {arm: {row.question_id: row for row in rows} for arm, rows in answers.items()}
    common = sorted(set(questions).intersection(*by.values()))
    chance = random.Random(f"rating sheet {name} {seed}")
    chosen = chance.sample(common, min(count, len(common)))
    cases = [(questions[name], by[arm][name]) for name in chosen for arm in by]
    chance.shuffle(cases)
    return cases


def write(root: Path, name: str, cases: Sequence[Case], seed: int, out: Path) -> None:
    """Write `out`/<name>.csv and .html for the raters, and the key to data/ratings of the project folder `root`."""
    key = root / FOLDER / f"{name}.json"
    if key.exists():
        raise UserError(f"{key}: there is a sheet of this name; give another with --name")
    asked = [_asked(row, seed) for _, row in cases]
    rows = [cells(number, each.row, *case) for number, (each, case) in enumerate(zip(asked, cases, strict=True), 1)]
    out.mkdir(parents=True, exist_ok=True)
    with (
        files.replacing(out / f"{name}.csv") as temporary,
        temporary.open("w", encoding="utf-8-sig", newline="") as file,
    ):
        table = csv.DictWriter(file, [*SHOWN, *GIVEN])
        table.writeheader()
        table.writerows(
            {**row, "final": "", "reasoning": "" if _reasoned(case) else NOT_ASKED}
            for row, case in zip(rows, cases, strict=True)
        )
    with files.replacing(out / f"{name}.html") as temporary:
        temporary.write_text(_page(root, name, rows, cases), encoding="utf-8", errors="backslashreplace")
    files.write_json(key, {"seed": seed, "rows": asked})


def _asked(row: Prediction, seed: int) -> Asked:
    """A row's name tells nothing of its arm, and is another under another seed."""
    said = digest(row)
    text = "\x1f".join((str(seed), row.arm, row.split, row.prompt, row.question_id, said))
    name = "a" + hashlib.sha256(text.encode()).hexdigest()[:9]  # with a letter first: no spreadsheet takes it for 1e9
    return Asked(name, row.arm, row.split, row.prompt, row.question_id, said)


def _reasoned(case: Case) -> bool:
    return reasoning_applies(*case)


def cells(number: int, row: str, question: Question, prediction: Prediction) -> dict[str, str]:
    """What a rater sees of one answer."""
    said = {
        "question": question.question,
        "options": "\n".join(question.options),
        "reference": question.answer,
        "explanation": question.explanation,
        "thinking": thinking(prediction.completion) if prediction.prompt == "reasoning" else "",
        "answer": prediction.answer,
    }
    return {"number": str(number), "row": row, **{column: _cell(text) for column, text in said.items()}}


def _cell(text: str) -> str:
    text = visible(text)
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t")) else text


def _page(root: Path, name: str, rows: Sequence[Mapping[str, str]], cases: Sequence[Case]) -> str:
    made = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    images = {q.id: thumbnail(root, q.images, SIDE) for q, _ in cases}
    shown = [
        {**row, "image": images[question.id], "lost": bool(question.image) and not images[question.id],
         "options": question.options, "asked": _reasoned((question, prediction))}
        for row, (question, prediction) in zip(rows, cases, strict=True)
    ]  # fmt: skip
    made.finalize = lambda value: visible(value) if isinstance(value, str) else value
    return made.get_template("sheet.html.j2").render(name=name, rows=shown)


def take(root: Path, name: str, path: Path, rater: str, shown: Mapping[str, Mapping[str, str]]) -> tuple[int, int]:
    """Check a filled-in sheet and keep its scores as data/ratings/<name>.<rater>.csv. Returns (rated, left empty).

    `shown`: row -> its cells as they are now (:func:`cells`), for those answers that are still there. Raises UserError
    with the line for a row that is missing, extra, doubled or edited, and for a score that is not 0, 1 or empty.
    """
    asked = {each.row: each for each in key_of(root / FOLDER / f"{name}.json")}
    seen: dict[str, tuple[str, str]] = {}
    rated = 0
    for line, row in _filled(path):
        where = f"{path}: line {line}: row '{one_line(row['row'], 40)}'"
        if row["row"] not in asked:
            raise UserError(f"{where} is not in the sheet {name}; remove it, or give the right --name")
        if row["row"] in seen:
            raise UserError(f"{where} is there twice; keep one")
        if row["row"] not in shown:
            raise UserError(f"{where}: this answer is no longer what the model says; export a new sheet")
        _unedited(row, shown[row["row"]], where)
        reasoning = row["reasoning"].strip()
        final = score(row["final"], path, line, "final")
        thought = score("" if reasoning == NOT_ASKED else reasoning, path, line, "reasoning")
        rated += final is not None
        seen[row["row"]] = ("" if final is None else str(final), "" if thought is None else str(thought))
    if lost := [row for row in asked if row not in seen]:
        raise UserError(
            f"{path}: {len(lost)} of {len(asked)} rows are missing, the first '{lost[0]}'; a row without scores stays, "
            "with empty cells"
        )
    if not rated:
        raise UserError(f"{path}: column 'final' is empty in every row; fill it in with 0 or 1")
    with files.replacing(root / FOLDER / f"{name}.{rater}.csv") as temporary:
        with temporary.open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(COLUMNS)
            table.writerows((row, *seen[row]) for row in asked)
    return rated, len(asked) - rated


def _filled(path: Path) -> list[tuple[int, dict[str, str]]]:
    """The lines of a sheet as a spreadsheet saved it: comma, semicolon or tab, with or without a byte order mark."""
    try:
        text = files.need(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8; save it as 'CSV UTF-8'") from None
    head = text.partition("\n")[0]
    delimiter = max(",;\t", key=head.count)
    table = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    names = [name.strip() for name in table.fieldnames or ()]
    for column in (*SHOWN, *GIVEN):
        if names.count(column) != 1:
            raise UserError(f"{path}: line 1: column '{column}' must be there once; export the sheet again")
    table.fieldnames = names
    found = []
    for row in table:
        if None in row or None in row.values():
            raise UserError(f"{path}: line {table.line_num}: not {len(names)} cells; save the sheet as CSV again")
        found.append((table.line_num, row))
    return found


def _unedited(row: Mapping[str, str], shown: Mapping[str, str], where: str) -> None:
    for column in SHOWN[2:]:
        if row[column].split() != shown[column].split():
            raise UserError(f"{where}: column '{column}' was edited; only {' and '.join(GIVEN)} are to be filled in")
