"""Tables as users have them, and as nobody should: every row is read or refused by line, in bounded memory."""

import json
import tracemalloc
from pathlib import Path

import layouts
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grandrounds.errors import UserError
from grandrounds.sources import rows
from grandrounds.sources.rows import Row
from grandrounds.sources.store import Store

VALUES = [{"question": "Which?", "answer": 'ü, "x"\n=1+1'}, {"question": "And?", "answer": "b"}]


def read(path: Path, columns: tuple[str, ...] = ()) -> list[Row]:
    with Store(path) as store:
        return list(rows.read(store, path.name, columns))


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".json", ".parquet"])
def test_formats_agree(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"table{suffix}"
    write = {".csv": layouts.table, ".jsonl": layouts.jsonl, ".json": layouts.array, ".parquet": layouts.parquet}
    write[suffix](path, VALUES)
    assert [row.values for row in read(path)] == VALUES


@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.text(max_size=9)), max_size=5))
def test_json_lines_come_back_as_they_went(given: list[dict[str, str]]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        layouts.jsonl(Path(folder, "a.jsonl"), given)
        assert [row.values for row in read(Path(folder, "a.jsonl"))] == given


def test_a_formula_is_text(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('question,answer\n"=HYPERLINK(""http://x"")",@SUM(1)\n')
    assert read(tmp_path / "a.csv")[0].values == {"question": '=HYPERLINK("http://x")', "answer": "@SUM(1)"}


def test_a_mark_at_the_start_is_not_of_the_first_column(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("question,answer\na,b\n".encode("utf-8-sig"))
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + b'{"question": "a"}\n')
    assert "question" in read(tmp_path / "a.csv")[0].values and "question" in read(tmp_path / "a.jsonl")[0].values


def test_a_wrong_encoding_is_its_row_only(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"question,answer\nfine,a\n" + "Ödem?,ja\n".encode("latin-1") + b"end,b\n")
    (tmp_path / "a.jsonl").write_bytes(b'{"a": 1}\n{"a": "\xd6"}\n[1]\n{"a": \n\n{"a": 2}\n')
    assert [(row.number, row.problem) for row in read(tmp_path / "a.csv")] == [(2, ""), (3, "not UTF-8"), (4, "")]
    found = read(tmp_path / "a.jsonl")
    assert [row.number for row in found] == [1, 2, 3, 4, 6]
    assert [row.problem.split(":")[0] for row in found] == ["", "not UTF-8", "not a JSON object", "not JSON", ""]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_line_of_100_mb_is_refused_in_bounded_memory(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    first, last = ("a,b\n", "c,d\n") if suffix == ".csv" else ('{"a": 1}\n', '{"a": 2}\n')
    with path.open("w") as file:
        file.write(first * 2)
        for _ in range(100):
            file.write("x" * 1_000_000)
        file.write("\n" + last)
    tracemalloc.start()
    found = read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * rows.LINE
    assert [bool(row.problem) for row in found][-3:] == [False, True, False]
    assert next(row.problem for row in found if row.problem) == "the line has more than 16 MiB"


def test_rows_come_one_at_a_time(tmp_path: Path) -> None:
    row = {"question": "q" * 1000, "answer": "a"}
    for name, write in (("a.jsonl", layouts.jsonl), ("a.json", layouts.array), ("a.parquet", layouts.parquet)):
        write(tmp_path / name, [{**row, "n": str(n)} for n in range(20_000)])
        with Store(tmp_path / name) as store:
            tracemalloc.start()
            assert sum(1 for _ in rows.read(store, name)) == 20_000
            assert tracemalloc.get_traced_memory()[1] < 4_000_000, name  # of 20 MB
            tracemalloc.stop()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", 'a,b\n1,"open\n2,3\n', "not CSV"),
        ("a.csv", "a,a\n1,2\n", "column 'a' stands there twice"),
        ("a.json", '[{"a": 1}, {"a"', "after row 1: not an array"),
        ("a.json", '{"a": 1', "after row 0"),
        ("a.json", '[{"a": "' + "x" * (17 << 20) + '"}]', "one row has more than 16 MiB"),
        ("a.parquet", "PAR1", "not a whole parquet file"),
        ("a.pkl", "", "cannot read '.pkl' files"),
    ],
)
def test_a_file_that_cannot_be_read_on_is_one_line(name: str, content: str, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError) as caught:
        read(tmp_path / name)
    assert words in str(caught.value) and name in str(caught.value) and "\n" not in str(caught.value)


def test_too_few_cells_are_a_bad_row(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b\n1\n1,2\n1,2,3\n")
    assert [row.problem for row in read(tmp_path / "a.csv")] == [
        "1 cells, but there are 2 columns", "", "3 cells, but there are 2 columns",
    ]  # fmt: skip


def test_json_of_deep_nesting_is_a_bad_row(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("[" * 200_000 + "\n" + json.dumps({"a": 1}) + "\n")
    assert [bool(row.problem) for row in read(tmp_path / "a.jsonl")] == [True, False]
