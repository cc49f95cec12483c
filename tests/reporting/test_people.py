"""Sheets go out blinded and come back checked; ratings of answers that are no more count for nothing."""

import csv
import re
import shutil
from pathlib import Path

import pytest
from fixture import ACCURACY, HOSTILE
from typer.testing import CliRunner

from grandrounds import files
from grandrounds.cli import app
from grandrounds.errors import UserError
from grandrounds.records import Prediction
from grandrounds.reporting.collect import collect
from grandrounds.reporting.sections import people

ARMS = ("base", "sft", "mmedexpert")


@pytest.fixture
def project(written, tmp_path, monkeypatch) -> Path:
    """A project folder of its own, with a sheet of 15 questions and three arms given out."""
    root = tmp_path / "project"
    shutil.copytree(written.root, root)
    (root / "dvc.yaml").write_text("stages: {}\n")
    monkeypatch.setattr("grandrounds.cli.root", lambda: root)
    monkeypatch.chdir(root)
    run("export", "--name", "first", "--questions", "15", "--out", "out", *(f"--arm={arm}" for arm in ARMS))
    return root


def run(*words: str) -> str:
    told = CliRunner().invoke(app, ["human", *words], catch_exceptions=False)
    assert told.exit_code == 0, told.output
    return told.output


def rows(root: Path) -> list[dict[str, str]]:
    with (root / "out/first.csv").open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def save(root: Path, filled: list[dict[str, str]], name: str = "back.csv", **form: str) -> str:
    with (root / name).open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, list(filled[0]), **form)
        table.writeheader()
        table.writerows(filled)
    return name


def rated(root: Path, flip: int = 0) -> list[dict[str, str]]:
    """As a rater would who calls right what is right, but every `flip`-th answer."""
    filled = rows(root)
    for index, row in enumerate(filled):
        right = row["answer"] == row["reference"]
        row["final"] = str(int(right != (flip > 0 and index % flip == 0)))
        row["reasoning"] = row["reasoning"] or "1"
    return filled


def test_a_sheet_is_blind_shuffled_and_inert(project):
    sheet, page = rows(project), (project / "out/first.html").read_text("utf-8")
    assert len(sheet) == 45 and len({row["row"] for row in sheet}) == 45
    named = re.compile(rf"\b({'|'.join([*ACCURACY, 'SFT', 'MMedExpert', 'GRPO'])})\b")
    assert not named.search(" ".join(" ".join(row.values()) for row in sheet))
    assert not named.search(page.partition("<body>")[2])
    key = {each["row"]: each for each in files.read_json("data/ratings/first.json")["rows"]}
    order = [key[row["row"]]["arm"] for row in sheet]
    assert sorted(order) == sorted(ARMS * 15) and order[:6] != list(ARMS) * 2
    assert page.count("<article") == 45 and "<script" not in page and "default-src 'none'" in page
    assert "&lt;script&gt;" in page or HOSTILE not in str(sheet)
    assert "\u202e" not in page and not any("\u202e" in cell for row in sheet for cell in row.values())


def test_ratings_come_back_and_reach_the_report(project, written):
    for rater, flip in (("r1", 0), ("r2", 7), ("r3", 5)):
        told = run("import", save(project, rated(project, flip)), "--rater", rater, "--name", "first")
        assert "45 rated, 0 left empty" in told
    section = people.section(collect(project, written.params))
    pairs, fleiss, means = section.blocks
    by = {row.cells[0]: row.cells for row in pairs.rows}
    assert by["r1 and verifier"][1:3] == ["45", "100.0"] and by["r1 and verifier"][3].startswith("1.00")
    assert float(by["r1 and r2"][2]) == pytest.approx(100 * (1 - 7 / 45), abs=0.05)
    assert "[" in by["r1 and judge reference"][3]
    assert fleiss.rows[0].cells[0] == "all 3 raters" and fleiss.rows[0].cells[1] == "45"
    assert [row.cells[1] for row in means.rows] == ["15", "15", "15"]
    assert "r1 and verifier" in run("agreement")


def test_a_semicolon_file_with_windows_line_ends_is_read(project):
    filled = rated(project)
    filled[0]["final"] = ""  # cannot say
    told = run("import", save(project, filled, delimiter=";", lineterminator="\r\n"), "--rater=r1", "--name=first")
    assert "44 rated, 1 left empty" in told


def edit(column: str, value: str, line: int = 4):
    return lambda found: found[line].update({column: value})


BAD = {
    "missing": (lambda found: found.pop(3), r"back\.csv: 1 of 45 rows are missing, the first 'a\w{9}'"),
    "doubled": (lambda found: found.append(dict(found[3])), r"row 'a\w+' is there twice"),
    "foreign": (lambda found: found.append({**found[3], "row": "a000000000"}), r"row 'a000000000' is not in the sheet"),
    "edited": (edit("answer", "slow, surely"), r"line \d+: row 'a\w+': column 'answer' was edited"),
    "two": (edit("final", "2"), r"line \d+: column 'final': '2' must be 0, 1 or empty"),
    "words": (edit("reasoning", "yes"), r"column 'reasoning': 'yes' must be"),
    "empty": (lambda found: [row.update(final="") for row in found], r"column 'final' is empty in every row"),
    "no column": (lambda found: [row.pop("final") for row in found], r"line 1: column 'final' must be there once"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_sheet_that_was_changed_is_refused_with_the_row(project, case):
    change, message = BAD[case]
    filled = rated(project)
    change(filled)
    with pytest.raises(UserError, match=message):
        run("import", save(project, filled), "--rater=r1", "--name=first")
    assert not list((project / "data/ratings").glob("*.csv"))


@pytest.mark.parametrize("rater", ["Dr. Smith", "r0", "../r1", ""])
def test_no_name_enters_the_project(project, rater):
    with pytest.raises(UserError, match="must be r1, r2"):
        run("import", save(project, rated(project)), f"--rater={rater}", "--name=first")


def test_a_sheet_is_not_written_over(project):
    with pytest.raises(UserError, match=r"first\.json: there is a sheet of this name"):
        run("export", "--name", "first")


def test_ratings_of_answers_that_are_no_more_are_named_and_not_used(project, written):
    run("import", save(project, rated(project)), "--rater=r1", "--name=first")
    path = project / "data/predictions/sft.parquet"
    changed = [Prediction(**{f: getattr(row, f) for f in row.__slots__} | {"completion": row.completion + " "})
               for row in files.read(path, Prediction)]  # fmt: skip
    files.write(path, changed, Prediction)
    section = people.section(collect(project, written.params))
    assert "15 rated answers are not what the models say now (first: first: row a" in section.blocks[0].text
    assert [row.cells[0] for row in section.blocks[-1].rows] == ["Base", "MMedExpert-R1 (experts + policy)"]
    with pytest.raises(UserError, match="no longer what the model says; export a new sheet"):
        run("import", "back.csv", "--rater=r2", "--name=first")


def test_a_cell_that_a_spreadsheet_would_run_is_text():
    from grandrounds.reporting.sheets import _cell

    assert _cell("=HYPERLINK(1)") == "'=HYPERLINK(1)" and _cell("-5 mmol") == "'-5 mmol" and _cell("5") == "5"
