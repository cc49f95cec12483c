"""Rows of a table, one at a time: CSV and its kin, JSON Lines, a JSON array, Parquet.

A table of any size takes the memory of its largest row, and a row may not be larger than LINE. Cells are what they
are: text stays text (a cell that begins with `=` is no formula here), nothing is guessed from content.
"""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, BinaryIO

from grandrounds.errors import UserError
from grandrounds.sources.store import Store

LINE = 16 << 20  # bytes of one row's text
BATCH = 32  # rows of Parquet at once: they may hold pictures
SEPARATORS = {".csv": ",", ".tsv": "\t", ".txt": "|"}  # .txt: as VQA-Med has it
FORMATS = (*SEPARATORS, ".jsonl", ".ndjson", ".json", ".parquet")


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table. `number`: its line in a text file, else counted from 1. `problem`: why it has no values."""

    file: str
    number: int
    values: dict[str, Any] = field(default_factory=dict)
    problem: str = ""


def read(store: Store, name: str, columns: tuple[str, ...] = ()) -> Iterator[Row]:
    """All rows of one table. `columns`: its column names, where the file has no header.

    Raises UserError when the file cannot be read on: not the format that its name says, cut off, or an unclosed quote.
    """
    suffix = PurePosixPath(name).suffix.lower()
    if suffix not in FORMATS:
        raise UserError(f"{store.root / name}: cannot read '{suffix}' files; tables are {', '.join(FORMATS)}")
    with store.open(name) as file:
        if suffix in SEPARATORS:
            yield from _separated(store, name, file, SEPARATORS[suffix], columns)
        elif suffix == ".json":
            yield from _array(store, name, file)
        elif suffix == ".parquet":
            yield from _parquet(store, name, file)
        else:
            yield from _json_lines(name, file)


def _lines(file: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    """(number, line); None for a line longer than LINE, which is skipped in pieces."""
    number = 0
    while line := file.readline(LINE):
        number += 1
        whole = len(line) < LINE or line.endswith(b"\n")
        while not whole:
            piece = file.readline(LINE)
            whole = len(piece) < LINE or piece.endswith(b"\n")
            line = b""
        yield number, line or None


def _json_lines(name: str, file: BinaryIO) -> Iterator[Row]:
    for number, line in _lines(file):
        if line is None:
            yield Row(name, number, problem=f"the line has more than {LINE >> 20} MiB")
            continue
        if not line.strip():
            continue
        try:
            values = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
        except UnicodeDecodeError:
            yield Row(name, number, problem="not UTF-8")
        except (ValueError, RecursionError) as error:
            yield Row(name, number, problem=f"not JSON: {error}")
        else:
            wrong = "" if isinstance(values, dict) else "not a JSON object"
            yield Row(name, number, values={} if wrong else values, problem=wrong)


def _separated(store: Store, name: str, file: BinaryIO, separator: str, columns: tuple[str, ...]) -> Iterator[Row]:
    """CSV and its kin. The first line is the header, unless `columns` are given."""
    at = 0
    too_long = False

    def text() -> Iterator[str]:
        nonlocal at, too_long
        for number, line in _lines(file):
            at, too_long = number, too_long or line is None
            # bytes that are no UTF-8 become lone surrogates, by which their row is known
            yield "\n" if line is None else line.decode("utf-8-sig" if number == 1 else "utf-8", "surrogateescape")

    limit = csv.field_size_limit(LINE)
    # the pipes of VQA-Med are no CSV: a quote there is a quote
    quoting: Any = csv.QUOTE_NONE if separator == "|" else csv.QUOTE_MINIMAL
    reader = csv.reader(text(), delimiter=separator, quoting=quoting, strict=quoting != csv.QUOTE_NONE)
    try:
        header = list(columns)
        for cells in reader:
            long, too_long = too_long, False
            if not header:
                header = _header(store, name, cells)
            elif long:
                yield Row(name, at, problem=f"the line has more than {LINE >> 20} MiB")
            elif cells:
                yield _cells(name, at, header, cells)
    except csv.Error as error:
        raise UserError(f"{store.root / name}: line {at}: not CSV ({error}); check quotes and separators") from None
    finally:
        csv.field_size_limit(limit)


def _header(store: Store, name: str, cells: list[str]) -> list[str]:
    header = [cell.strip() for cell in cells]
    twice = next((cell for cell in header if header.count(cell) > 1), None)
    if twice is not None:
        raise UserError(f"{store.root / name}: line 1: column '{twice}' stands there twice; give each its own name")
    return header


def _cells(name: str, number: int, header: list[str], cells: list[str]) -> Row:
    try:
        "".join(cells).encode()
    except UnicodeEncodeError:
        return Row(name, number, problem="not UTF-8")
    if len(cells) != len(header):
        return Row(name, number, problem=f"{len(cells)} cells, but there are {len(header)} columns")
    return Row(name, number, values=dict(zip(header, cells, strict=True)))


class _Watched:
    """A stream that ends with an error when one row takes more than LINE bytes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.taken = file, 0

    def read(self, size: int) -> bytes:
        self.taken += size
        if self.taken > LINE:
            raise ValueError(f"one row has more than {LINE >> 20} MiB")
        return self._file.read(size)


def _array(store: Store, name: str, file: BinaryIO) -> Iterator[Row]:
    import ijson

    watched, number = _Watched(file), 0
    try:
        for values in ijson.items(watched, "item", use_float=True):
            number, watched.taken = number + 1, 0
            wrong = "" if isinstance(values, dict) else "not a JSON object"
            yield Row(name, number, values={} if wrong else values, problem=wrong)
    except (ijson.JSONError, UnicodeDecodeError, ValueError) as error:
        raise UserError(
            f"{store.root / name}: after row {number}: not an array of JSON objects in UTF-8 ({_short(error)}); "
            "fetch the file again, or mend it there"
        ) from None


def _parquet(store: Store, name: str, file: BinaryIO) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        for batch in pq.ParquetFile(file).iter_batches(BATCH):
            for values in batch.to_pylist():
                number += 1
                yield Row(name, number, values=values)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(
            f"{store.root / name}: after row {number}: not a whole parquet file ({_short(error)}); fetch it again"
        ) from None


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
