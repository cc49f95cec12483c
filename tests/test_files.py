"""Files between stages: whole or not at all, and a clear line when one is missing or broken."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from grandrounds import files
from grandrounds.errors import UserError
from grandrounds.records import Difficulty, Verdict

ROW = Difficulty("q1", "pediatrics", "apgar", "yes_no", 8, 8, 7, 3, True, "kept")


def test_rows_come_back_and_bytes_repeat(tmp_path: Path) -> None:
    rows = [ROW, Difficulty("q2", "other", "é", "open_ended", 8, 8, 0, 0, False, "too_hard")]
    files.write(tmp_path / "a.parquet", rows, Difficulty)
    files.write(tmp_path / "b.parquet", iter(rows), Difficulty)
    assert files.read(tmp_path / "a.parquet", Difficulty) == rows
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_unscored_stays_none(tmp_path: Path) -> None:
    verdict = Verdict("sft", "q1", "test", "reasoning", "reference", None, 0, "")
    files.write(tmp_path / "v.parquet", [verdict], Verdict)
    assert files.read(tmp_path / "v.parquet", Verdict) == [verdict]


def test_no_rows_keep_their_columns(tmp_path: Path) -> None:
    files.write(tmp_path / "none.parquet", [], Difficulty)
    assert files.read(tmp_path / "none.parquet", Difficulty) == []
    assert pq.read_schema(tmp_path / "none.parquet").names == list(Difficulty.__dataclass_fields__)


def test_a_missing_file_says_how_to_get_it_back(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.parquet: missing; run `dvc checkout .*`dvc repro`"):
        files.read(tmp_path / "gone.parquet", Difficulty)


@pytest.mark.parametrize("keep", [0, 3, 100, -4])
def test_a_truncated_file_is_named(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "cut.parquet"
    files.write(path, [ROW] * 50, Difficulty)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"cut\.parquet: not a whole parquet file .*dvc checkout") as caught:
        files.read(path, Difficulty)
    assert "\n" not in str(caught.value)


def test_a_lost_column_is_named(tmp_path: Path) -> None:
    path = tmp_path / "old.parquet"
    pq.write_table(pa.table({"question_id": ["q1"]}), path)
    with pytest.raises(UserError, match=r"old\.parquet: column 'specialty' is missing"):
        files.read(path, Difficulty)


def test_json_is_sorted_and_refuses_nan(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    files.write_json(path, {"b": 1, "a": {"d": 2.5, "c": ROW}})
    assert path.read_text().index('"a"') < path.read_text().index('"b"')
    assert files.read_json(path)["a"]["c"]["correct"] == 3
    with pytest.raises(ValueError, match="JSON compliant"):
        files.write_json(path, {"loss": float("nan")})
    assert files.read_json(path)["b"] == 1, "a refused write must leave the old file"
    path.write_text("{")
    with pytest.raises(UserError, match=r"m\.json: not JSON"):
        files.read_json(path)


def test_an_error_in_the_block_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), files.replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert [each.name for each in tmp_path.iterdir()] == ["out.txt"] and path.read_text() == "old"


def test_a_folder_takes_the_place_of_a_folder(tmp_path: Path) -> None:
    path = tmp_path / "model"
    for text in ("old", "new"):
        with files.replacing(path) as temporary:
            temporary.mkdir()
            (temporary / f"{text}.txt").write_text(text)
    assert [each.name for each in path.iterdir()] == ["new.txt"]
    assert [each.name for each in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_kill_9_leaves_the_old_output_whole(tmp_path: Path, kind: str) -> None:
    """A stage that dies half-way leaves what was there; its unfinished copy has a name that DVC and Git ignore."""
    path = tmp_path / "out"
    path.write_text("old")
    program = (
        "import os, signal, sys; from grandrounds.files import replacing\n"
        "with replacing(sys.argv[1]) as temporary:\n"
        "    if sys.argv[2] == 'folder': temporary.mkdir(); temporary = temporary / 'weights'\n"
        "    temporary.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
    killed = subprocess.run([sys.executable, "-c", program, str(path), kind], env=env, timeout=60, check=False)
    assert killed.returncode == -signal.SIGKILL and path.read_text() == "old"
    left = [each.name for each in tmp_path.iterdir() if each != path]
    assert all(name.startswith(".") and name.endswith(".tmp") for name in left)
    with files.replacing(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"
