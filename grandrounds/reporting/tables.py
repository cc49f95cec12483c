"""The published tables that ship with the report, as text."""

import csv
from pathlib import Path

FOLDER = Path(__file__).parent / "published"


def rows_of(name: str) -> list[dict[str, str]]:
    """The rows of one published table, as text."""
    with (FOLDER / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
