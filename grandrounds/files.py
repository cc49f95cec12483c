"""Files between stages: read with a clear error, written whole or not at all."""

import dataclasses
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from grandrounds.errors import UserError, of_disk
from grandrounds.records import schema

Record = TypeVar("Record")

HOW_TO_GET_BACK = "run `dvc checkout {path}` (or `dvc pull {path}`), or make it anew with `dvc repro`"


def need(path: str | Path) -> Path:
    """The path, if it exists; else a UserError that says how to get it back."""
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: missing; {HOW_TO_GET_BACK.format(path=path)}")
    return path


def read(path: str | Path, record: type[Record]) -> list[Record]:
    """All rows of a parquet file as records. Refuses a file that is truncated or has other columns."""
    path = need(path)
    try:
        with pq.ParquetFile(path) as file:  # read_table would import pandas, half a second of every stage
            table = file.read()
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{path}: not a whole parquet file ({error}); {HOW_TO_GET_BACK.format(path=path)}") from error
    wanted = schema(record)  # type: ignore[arg-type]
    lost = [name for name in wanted.names if name not in table.column_names]
    if lost:
        raise UserError(f"{path}: column '{lost[0]}' is missing; {HOW_TO_GET_BACK.format(path=path)}")
    return [record(**row) for row in table.select(wanted.names).to_pylist()]


def write(path: str | Path, rows: Iterable[Any], record: type) -> None:
    """Write records to parquet under a temporary name, then rename. Same rows, same bytes."""
    columns = schema(record)
    rows = list(rows)
    data = {name: [getattr(row, name) for row in rows] for name in columns.names}
    table = pa.table(data, schema=columns)
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def write_json(path: str | Path, value: Any) -> None:
    """Write JSON, sorted keys, whole or not at all. Dataclasses are written as objects."""
    with replacing(path) as temporary:
        text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False, default=_plain)
        Path(temporary).write_text(text + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if hasattr(value, "item"):  # numpy and torch scalars
        return value.item()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"cannot write {type(value).__name__} as JSON")


def read_json(path: str | Path) -> Any:
    path = need(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}); {HOW_TO_GET_BACK.format(path=path)}") from error


def writable(path: str | Path) -> None:
    """Make the folder that `path` is to lie in, and write to it: a UserError now rather than after hours of work."""
    folder = Path(path).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"0")
    except OSError as error:
        if told := of_disk(error, folder):
            raise told from error
        raise


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary file or folder beside `path`, which takes its place when the block ends without an error.

    The block makes either a file or a folder under the name that it is given. A disk that is full is a UserError.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{os.getpid()}.tmp"
    _remove(temporary)
    try:
        yield temporary
        _remove(path)
        os.replace(temporary, path)
    except Exception as error:
        if told := of_disk(error, path):
            raise told from error
        raise
    finally:
        _remove(temporary)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
