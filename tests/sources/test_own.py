"""Data that no publisher describes: tables with their own columns, conversations, and a dataset on a hub."""

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import layouts
import pytest

from grandrounds.errors import UserError
from grandrounds.params import ChatSource, PublishedSource, SpecialtyRule, TableSource
from grandrounds.sources.images import Gallery
from grandrounds.sources.intake import Taken, labeller, take

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def taken(spec: Any, folder: Path, rules: tuple[SpecialtyRule, ...] = ()) -> Taken:
    folder.mkdir(exist_ok=True)
    return take("mine", spec, Gallery(folder, 10**6, 64), labeller(rules))


def test_a_table_with_columns_of_its_own(tmp_path: Path) -> None:
    rows = [
        {"Frage": "Which?", "A": "x", "B": "y", "richtig": "B", "Bild": "1.png", "Fall": "7", "Fach": "pediatrics"},
        {"Frage": "Free?", "A": "", "B": "", "richtig": "z", "Bild": "", "Fall": "8", "Fach": ""},
        {"Frage": "Wrong field?", "A": "", "B": "", "richtig": "z", "Bild": "", "Fall": "8", "Fach": "surgery"},
    ]  # fmt: skip
    layouts.table(tmp_path / "own/questions.csv", rows)
    (tmp_path / "own/1.png").write_bytes(layouts.picture(1))
    columns = {"question": "Frage", "choices": ["A", "B"], "answer": "richtig", "image": "Bild", "group": "Fall"}
    spec = TableSource(type="table", role="train", path=tmp_path / "own", columns={**columns, "specialty": "Fach"})  # type: ignore[arg-type]
    found = taken(spec, tmp_path / "images")
    assert [(each.kind, each.label, each.answer, each.group) for each in found.questions] == [
        ("multiple_choice", "B", "y", "7"), ("open_ended", "", "z", "8"),
    ]  # fmt: skip
    assert [each.specialty for each in found.questions] == ["pediatrics", "other"]
    assert [(each.row, each.column) for each in found.quarantine] == [(4, "specialty")]


@pytest.mark.parametrize(("role", "kept", "repeated"), [("train", 1, 1), ("test", 2, 0)])
def test_only_training_loses_what_it_repeats(tmp_path: Path, role: str, kept: int, repeated: int) -> None:
    layouts.table(tmp_path / "own/questions.csv", [{"question": "Which?", "answer": "x"}] * 2)
    found = taken(TableSource(type="table", role=role, path=tmp_path / "own"), tmp_path / "images")  # type: ignore[arg-type]
    assert (len({each.id for each in found.questions}), found.repeated, found.read) == (kept, repeated, 2)


def test_one_table_with_pictures_in_it(tmp_path: Path) -> None:
    rows = [{"question": "What?", "answer": "yes.", "picture": layouts.stored(1)}]
    layouts.parquet(tmp_path / "own.parquet", rows)
    columns = {"image": "picture"}
    spec = TableSource(type="table", role="test", path=tmp_path / "own.parquet", columns=columns)  # type: ignore[arg-type]
    question = taken(spec, tmp_path / "images").questions[0]
    assert (question.kind, question.answer, question.group) == ("yes_no", "yes", f"picture/{question.image}")


def test_the_first_rule_whose_words_are_there_decides() -> None:
    rules = (
        SpecialtyRule(specialty="pediatrics", words=("infant", "child"), look="question"),
        SpecialtyRule(specialty="brain_senses", words=("head",), look="subject"),
    )
    label = labeller(rules)
    from grandrounds.sources.layout import Draft

    assert label(Draft("An INFANT's head?", "a", subject="Head")).specialty == "pediatrics"
    assert label(Draft("Which infantry?", "a", subject="Head")).by == "rule 2: subject, brain_senses"
    assert label(Draft("A head?", "a")).specialty == "other"
    assert label(Draft("An infant", "a", specialty="brain_senses")).by == "stated by the source"


def chat(user: Any, assistant: Any, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}], **more}


def test_conversations(tmp_path: Path) -> None:
    parts = [{"type": "image"}, {"type": "text", "text": "What is it?"}]
    rows = [
        chat("<image>\nWhich?\nA. x\nB. y", "<think>It is y.</think><answer>B</answer>", images=["1.png"]),
        chat(parts, "a mass", images=["1.png"]),
        chat([{"type": "image", "image": "1.png"}, parts[1]], [{"type": "text", "text": "No"}]),
        {"messages": [{"role": "system", "content": "s"}, *chat("And text?", "12 mg")["messages"]]},
        {"messages": chat("a", "b")["messages"] * 2},
        {"messages": "hello"},
        chat("Which?\nA. x\nB. y", "C"),
    ]
    layouts.jsonl(tmp_path / "own/chat.jsonl", rows)
    (tmp_path / "own/1.png").write_bytes(layouts.picture(1))
    found = taken(ChatSource(type="chat", role="train", path=tmp_path / "own"), tmp_path / "images")
    assert [(each.kind, each.answer, bool(each.image)) for each in found.questions] == [
        ("multiple_choice", "y", True), ("open_ended", "a mass", True), ("yes_no", "no", True),
        ("open_ended", "12 mg", False),
    ]  # fmt: skip
    assert found.questions[0].explanation == "It is y." and found.questions[0].question == "Which?"
    assert [(each.row, each.column) for each in found.quarantine] == [(5, "messages"), (6, "messages"), (7, "answer")]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A hub on loopback with one dataset at one commit; yields the paths that were asked for."""
    (tmp_path / "dataset").mkdir()
    layouts.slake(tmp_path / "dataset")
    (tmp_path / "dataset/slake.py").write_text("raise SystemExit('hub code ran')")
    (tmp_path / "dataset/train.pkl").write_bytes(b"\x80\x04cos\nsystem\n")
    contents = {path.name: path.read_bytes() for path in (tmp_path / "dataset").iterdir()}
    asked: list[str] = []

    class Hub(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            asked.append(self.path)
            name = self.path.rpartition("/")[2].partition("?")[0]
            if self.path.startswith("/api/datasets/some/slake/tree"):
                listed = [{"type": "file", "path": each, "size": len(contents[each]), "oid": "0"} for each in contents]
                self.answer(json.dumps(listed).encode(), "application/json")
            elif self.path.startswith("/api/datasets/some/slake"):
                told = {"id": "some/slake", "sha": COMMIT, "siblings": [{"rfilename": each} for each in contents]}
                self.answer(json.dumps(told).encode(), "application/json")
            elif f"/resolve/{COMMIT}/" in self.path and name in contents:
                self.answer(contents[name], "application/octet-stream")
            else:
                self.send_error(404)

        def answer(self, body: bytes, kind: str) -> None:
            self.send_response(200)
            for key, value in {"Content-Type": kind, "Content-Length": len(body), "ETag": f'"{hash(body):x}"'}.items():
                self.send_header(key, str(value))
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    from huggingface_hub import constants

    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    yield asked
    server.shutdown()


def test_a_set_on_the_hub_is_fetched_without_its_code_and_pickles(hub: list[str], tmp_path: Path) -> None:
    spec = PublishedSource(type="slake", role="train", repository="some/slake", revision=COMMIT)
    found = taken(spec, tmp_path / "images")
    assert [question.answer for question in found.questions] == ["Lung"]
    assert any(path.endswith("/train.json") for path in hub) and any(path.endswith("/imgs.zip") for path in hub)
    assert not [path for path in hub if path.endswith((".py", ".pkl"))]
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.suffix in (".py", ".pkl")]


def test_a_set_that_the_hub_has_not_is_one_line(hub: list[str], tmp_path: Path) -> None:
    spec = PublishedSource(type="slake", role="train", repository="some/other", revision=COMMIT)
    with pytest.raises(UserError, match="some/other at 0123456789ab cannot be fetched") as caught:
        taken(spec, tmp_path / "images")
    assert "\n" not in str(caught.value)
