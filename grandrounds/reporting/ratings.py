"""People's ratings: which answers were put to them, what they gave, and how far they agree with each other and judges.

`data/ratings/<sheet>.json` is the key of a sheet (which row is which arm's answer), `data/ratings/<sheet>.<rater>.csv`
what one rater gave. Both are small and stand in Git: a rating is work that no stage can make again. Raters are r1, r2,
...: who they are stays with those who asked them. A rating is of one answer; where a model was trained anew and answers
otherwise, its old ratings are counted as outdated and used for nothing.
"""

import csv
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from grandrounds import files
from grandrounds.errors import UserError
from grandrounds.records import Prediction

FOLDER = Path("data/ratings")
COLUMNS = ("row", "final", "reasoning")
RATER = re.compile(r"r[1-9][0-9]{0,3}")
SHEET = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")

Score = int | None  # 0, 1, or None: not rated
Key = tuple[str, str, str, str]  # arm, split, prompt, question id


@dataclass(frozen=True)
class Asked:
    """One row of a sheet: the answer that was shown, known by its digest."""

    row: str
    arm: str
    split: str
    prompt: str
    question_id: str
    digest: str

    @property
    def key(self) -> Key:
        return (self.arm, self.split, self.prompt, self.question_id)


@dataclass(frozen=True)
class Ratings:
    """What people gave to the answers as they are now: rater -> answer -> (final, reasoning)."""

    given: Mapping[str, Mapping[Key, tuple[Score, Score]]] = field(default_factory=dict)
    outdated: tuple[str, ...] = ()  # "<sheet>: row <row>" of ratings whose answer is another by now


def digest(row: Prediction) -> str:
    return hashlib.sha256(row.completion.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def key_of(path: Path) -> list[Asked]:
    """The rows of a sheet. Raises UserError for a file that is no key."""
    try:
        return [Asked(**row) for row in files.read_json(path)["rows"]]
    except (KeyError, TypeError):
        raise UserError(f"{path}: not the key of a rating sheet; `git checkout {path}` brings it back") from None


def read(root: Path, predictions: Iterable[Prediction]) -> Ratings:
    """All ratings of a project folder. A rater who rated one answer in two sheets is refused."""
    now = {(row.arm, row.split, row.prompt, row.question_id): row for row in predictions}
    given: dict[str, dict[Key, tuple[Score, Score]]] = {}
    outdated: list[str] = []
    for path in sorted((root / FOLDER).glob("*.csv")):
        sheet, _, rater = path.stem.rpartition(".")
        asked = {row.row: row for row in key_of(path.with_name(f"{sheet}.json"))}
        for line, row in rows_of(path):
            known = asked.get(row["row"])
            if known is None:
                raise UserError(
                    f"{path}: line {line}: row '{row['row']}' is not in {sheet}.json; import the sheet again"
                )
            current = now.get(known.key)
            if current is None or digest(current) != known.digest:
                outdated.append(f"{sheet}: row {known.row}")
                continue
            if known.key in given.setdefault(rater, {}):
                raise UserError(
                    f"{path}: line {line}: {rater} rated this answer in another sheet too; remove one of them"
                )
            given[rater][known.key] = (
                score(row["final"], path, line, "final"),
                score(row["reasoning"], path, line, "reasoning"),
            )
    return Ratings(dict(sorted(given.items(), key=lambda each: int(each[0][1:]))), tuple(dict.fromkeys(outdated)))


def rows_of(path: Path) -> list[tuple[int, dict[str, str]]]:
    with path.open(encoding="utf-8", newline="") as file:
        table = csv.DictReader(file)
        if tuple(table.fieldnames or ()) != COLUMNS:
            raise UserError(f"{path}: line 1: the columns must be {', '.join(COLUMNS)}; import the sheet again")
        return [(table.line_num, row) for row in table]


def score(text: str | None, path: Path, line: int, column: str) -> Score:
    """A cell as 0, 1 or None for an empty one. Raises UserError for anything else."""
    text = (text or "").strip()
    if text in ("0", "1"):
        return int(text)
    if text:
        raise UserError(f"{path}: line {line}: column '{column}': '{text[:20]}' must be 0, 1 or empty")
    return None
