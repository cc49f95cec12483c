"""curate on mixed sources: every row accounted for, nothing shared between splits, the embedded corpus untouched."""

import io
import json
from pathlib import Path
from typing import Any

import layouts
import pytest
import yaml
from PIL import Image

from grandrounds import files
from grandrounds.domain.leakage import shared
from grandrounds.errors import UserError
from grandrounds.params import Params, check
from grandrounds.records import SPLITS, Quarantined, Question
from tasks import curate

ROOT = Path(__file__).parents[2]
TINY = {"type": "embedded", "pretrain": 60, "train": 30, "val": 20, "test": 20, "unseen": 20}


def jpeg(seed: int) -> bytes:
    """The picture of a seed once more, as another hospital's export would have it."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(layouts.picture(seed, size=(160, 120)))).save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def params(sources: dict[str, Any], **more: Any) -> Params:
    raw = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    raw["curate"] = {"sources": sources, **more}
    if "embedded" not in sources:
        raw["base"] = {"model": {"type": "local", "base": "base", "teacher": "teacher"}}
    return check(raw)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two tables of our own, with planted repetitions, leaks and bad rows."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    (tmp_path / "data/sources/own/images").mkdir(parents=True)
    (tmp_path / "params.yaml").write_text("")
    for seed in range(12):
        (tmp_path / f"data/sources/own/images/{seed}.png").write_bytes(layouts.picture(seed, size=(160, 120)))
    (tmp_path / "data/sources/own/images/again.jpg").write_bytes(jpeg(9))
    words = ["asthma", "gout", "stroke", "sepsis", "angina", "anaemia", "scurvy", "rickets"]
    train = [
        {"patient": f"p{i // 2}", "question": f"What helps in {word}?", "answer": "rest", "image": ""}
        for i, word in enumerate(words)
    ]
    train += [{"patient": f"q{i}", "question": "What is seen?", "answer": "a", "image": f"{i}.png"} for i in range(8)]
    train += [
        {"patient": "p0", "question": "what helps in ASTHMA", "answer": "rest", "image": ""},  # repeats the first
        {"patient": "q9", "question": "Which side?", "answer": "left", "image": "again.jpg"},  # leaks picture 9
        {"patient": "t1", "question": "Is it fatal?", "answer": "no", "image": ""},  # leaks a patient
        {"patient": "p7", "question": "Which drug treats malaria?", "answer": "quinine", "image": ""},  # leaks a text
        {"patient": "p8", "question": "Which?", "answer": "", "image": ""},  # no answer
        {"patient": "p9", "question": "Which?", "answer": "a", "image": "lost.png"},  # no picture
    ]
    test = [
        {"patient": "t1", "question": "Which drug treats malaria?", "answer": "quinine", "image": ""},
        {"patient": "t2", "question": "What is seen?", "answer": "b", "image": "9.png"},
    ]
    layouts.table(tmp_path / "data/sources/own/train.csv", train)
    layouts.table(tmp_path / "data/sources/own/test.csv", test)
    return tmp_path


def own(role: str, **more: Any) -> dict[str, Any]:
    where = {"path": "data/sources/own", "files": [f"{role}.csv"]}
    return {"type": "table", "role": role, "columns": {"group": "patient", "image": "image"}, **where, **more}


MIXED = {"embedded": TINY, "ours": own("train"), "theirs": own("test", licence="CC-BY-4.0", redistribute=True)}


def splits() -> dict[str, list[Question]]:
    return {split: files.read(f"data/curated/{split}.parquet", Question) for split in SPLITS}


def test_every_row_is_accounted_for(project: Path) -> None:
    curate.main(None, params(MIXED, quarantine_share=0.2, validation=0.25))
    metrics = json.loads(Path("reports/curate/metrics.json").read_text())
    sources = metrics["sources"]
    assert {key: sources["ours"][key] for key in ("rows", "read", "kept", "duplicate", "quarantined", "leaked")} == {
        "rows": 22, "read": 22, "kept": 16, "duplicate": 1, "quarantined": 2, "leaked": 3,
    }  # fmt: skip
    for each in sources.values():
        assert each["rows"] == each["left_out"] + each["read"]
        assert each["read"] == each["kept"] + each["duplicate"] + each["quarantined"] + each["leaked"]
    assert metrics["read"] == metrics["kept"] + sum(metrics["dropped"].values())
    assert sources["theirs"]["kept"] == 2  # an evaluation set is never altered
    found = splits()
    assert sum(map(len, found.values())) == metrics["kept"] and shared(found) == {}
    audit = json.loads(Path("data/curated/audit.json").read_text())
    assert len(audit["repeats"]) == 1 and all(name.startswith("ours-") for name in audit["repeats"].values())
    removed = audit["removed"]
    assert sorted(each["by"] for each in removed) == ["group", "image", "question"]
    assert all(each["split"] == "test" for each in removed)
    quarantine = files.read("data/curated/quarantine.parquet", Quarantined)
    assert [(row.row, row.column, row.file) for row in quarantine] == [
        (22, "answer", "train.csv"), (23, "image", "train.csv"),
    ]  # fmt: skip
    pictures = {question.image for questions in found.values() for question in questions} - {""}
    pictures |= {name for pair in audit["removed"] for name in pair.get("images", [])}  # shown beside what they repeat
    assert pictures == {path.name for path in Path("data/curated/images").iterdir()}
    card = Path("data/curated/card.md").read_text()
    assert "| ours | 22 | 0 | 22 | 16 | 1 | 2 | 3 |" in card and "NO, nor what is derived from it" in card


def test_validation_is_whole_groups_and_no_matter_of_order(project: Path) -> None:
    curate.main(None, params(MIXED, quarantine_share=0.2, validation=0.25))
    first = splits()
    ours = {split: [row for row in first[split] if row.source == "ours"] for split in ("train", "val")}
    assert 4 <= len(ours["val"]) <= 6 and all(row.split == "val" for row in ours["val"])
    assert not {row.group for row in ours["val"]} & {row.group for row in ours["train"]}
    lines = Path("data/sources/own/train.csv").read_text().splitlines()
    Path("data/sources/own/train.csv").write_text("\n".join([lines[0], *reversed(lines[1:])]) + "\n")
    curate.main(None, params(MIXED, quarantine_share=0.2, validation=0.25))
    again = {row.group for row in splits()["val"] if row.source == "ours"}
    assert again == {row.group for row in ours["val"]}


def test_the_embedded_rows_are_the_same_alone_and_beside_others(project: Path) -> None:
    curate.main(None, params({"embedded": TINY}))
    alone = splits()
    curate.main(None, params(MIXED, quarantine_share=0.2))
    beside = {split: [row for row in rows if row.source not in MIXED] for split, rows in splits().items()}
    assert alone == beside


def test_what_no_rule_decides_is_asked_of_the_labeller(project: Path, server) -> None:
    def script(number: int, body: dict) -> str:
        asked = json.dumps(body)
        return "Oncology surgery." if "angina" in asked else "pediatrics, or other" if "gout" in asked else "other"

    server.script = script
    asks = {"engine": {"type": "openai", "model": "m", "endpoints": [server.url]}}
    rule = {"specialty": "adult_medicine", "words": ["asthma"]}
    curate.main(None, params(MIXED, quarantine_share=0.2, validation=0, labeller=asks, specialties=[rule]))
    found = {row.question: row.specialty for rows in splits().values() for row in rows}
    assert found["What helps in asthma?"] == "adult_medicine"  # a rule decided: not asked
    assert found["What helps in angina?"] == "oncology_surgery"
    assert found["What helps in gout?"] == "other"  # two were named, so none was
    said = json.loads(Path("reports/curate/metrics.json").read_text())["sources"]
    by = said["ours"]["labelled"]
    assert set(by) == {"rule 1: any, adult_medicine", "labeller: openai", "no rule"}
    assert sum(by.values()) == pytest.approx(1, abs=1e-3)
    assert len(server.bodies) == 17 and "asthma" not in json.dumps(server.bodies)
    assert "| ours | labeller: openai |" in Path("data/curated/card.md").read_text()


def test_a_labeller_needs_a_model_of_its_own() -> None:
    with pytest.raises(UserError, match=r"curate\.labeller.*'model', a folder, goes with the engines transformers"):
        params(MIXED, labeller={"engine": {"type": "transformers"}})


def test_files_alone_make_a_corpus(project: Path) -> None:
    curate.main(None, params({"ours": own("train"), "theirs": own("test")}, quarantine_share=0.2, validation=0.25))
    assert {name: len(rows) for name, rows in splits().items()} | {"train": 0, "val": 0} == {
        "pretrain": 0, "train": 0, "val": 0, "test": 2, "unseen": 0,
    }  # fmt: skip
    assert json.loads(Path("reports/curate/metrics.json").read_text())["kept"] == 18


def test_a_leak_stops_the_stage_where_it_should(project: Path) -> None:
    with pytest.raises(UserError, match=r"3 training questions are in an evaluation set too.*curate\.leakage: remove"):
        curate.main(None, params(MIXED, quarantine_share=0.2, leakage="fail"))
    assert not Path("data/curated/train.parquet").exists()


def test_too_much_quarantine_stops_the_stage(project: Path) -> None:
    with pytest.raises(UserError, match=r"curate\.sources\.ours: 2 of 22 rows.*grandrounds data check ours"):
        curate.main(None, params(MIXED))
    assert not Path("data/curated").exists() or not list(Path("data/curated").iterdir())
