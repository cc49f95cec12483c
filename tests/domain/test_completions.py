"""The table of adversarial completions: what is extracted, and whether it counts, strictly and leniently."""

from pathlib import Path

import pytest

from grandrounds.domain.answers import extract, verify
from grandrounds.records import Question


def asked(kind: str, options: list[str], answer: str, label: str = "", synonyms: tuple[str, ...] = ()) -> Question:
    return Question("q", "s", "test", "g", "other", "t", "text", kind, "?", options, answer, label, list(synonyms),
                    "", [], "", "")  # fmt: skip


ASKED = {
    "plain": asked("multiple_choice", ["slow", "normal", "fast", "very fast"], "fast"),
    "letter": asked("multiple_choice", ["heart", "liver", "left lung", "lung"], "liver", "B"),
    "inside": asked("multiple_choice", ["cancer", "lung cancer", "no cancer", "small cell lung cancer"],
                    "lung cancer", "B"),
    "yes": asked("yes_no", [], "yes"),
    "open": asked("open_ended", [], "2.5 mg", synonyms=("two and a half milligrams",)),
    "name": asked("open_ended", [], "myocardial infarction", synonyms=("heart attack",)),
}  # fmt: skip


def plain(text: str) -> str:
    return text.encode("ascii").decode("unicode_escape")


def rows() -> list[tuple[str, str, str, str]]:
    lines = Path(__file__).with_name("completions.txt").read_text(encoding="ascii").splitlines()
    found = []
    for line in lines:
        if line and not line.startswith("#"):
            name, text, strict, lenient = (cell.strip() for cell in line.split(" | "))
            completion = plain(text).replace("T:", "<think>x</think>")
            found.append((name, completion, strict, strict if lenient == "=" else lenient))
    return found


def reading(question: Question, completion: str, strict: bool) -> tuple[str, str | None]:
    found = verify(question, completion, strict=strict)
    kind = "right" if found.correct else "wrong" if found.extracted else "unread"
    return kind, extract(completion, strict=strict).answer


@pytest.mark.parametrize(("name", "completion", "strict", "lenient"), rows())
def test_the_reading(name: str, completion: str, strict: str, lenient: str) -> None:
    for expected, is_strict in ((strict, True), (lenient, False)):
        kind, _, text = expected.partition(" ")
        assert reading(ASKED[name], completion, is_strict) == (kind, plain(text) if text else None)


def test_the_table_is_long_and_has_all_kinds() -> None:
    found = rows()
    assert len(found) >= 60 and {name for name, *_ in found} == set(ASKED)
    assert {strict.split()[0] for _, _, strict, _ in found} == {"right", "wrong", "unread"}


def test_strict_is_never_kinder_than_lenient() -> None:
    assert all(lenient.startswith("right") for _, _, strict, lenient in rows() if strict.startswith("right"))
