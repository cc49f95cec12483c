import hashlib
from pathlib import Path

import pytest

from grandrounds.domain.prompts import COMPACT, FULL
from grandrounds.errors import UserError
from grandrounds.forms import read
from grandrounds.params import Prompts


def given(path: Path, text: str, sha256: str | None = None) -> Prompts:
    path.write_text(text)
    return Prompts(wording="full", file=path, sha256=sha256 or hashlib.sha256(text.encode()).hexdigest())


def test_a_file_rewords_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    mine = read(given(tmp_path / "mine.yaml", "reasoning: {instruction: Reason like a surgeon.}"))
    assert mine["reasoning"].instruction == "Reason like a surgeon." and mine["reasoning"].thinking
    assert {name: form for name, form in mine.items() if name != "reasoning"} == {
        name: form for name, form in FULL.items() if name != "reasoning"
    }
    assert read(Prompts()) == COMPACT


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("reasonin: {instruction: a}", "did you mean 'reasoning'"),
        ("reasoning: {instructions: a}", "did you mean 'instruction'"),
        ("reasoning: {thinking: 3}", "reasoning.thinking: expected bool, but 3"),
        ("reasoning: a", "expected instruction, thinking, prefill"),
        ("- a", "expected forms by name"),
        ("a: [", "not YAML"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UserError, match="mine") as error:
        read(given(tmp_path / "mine.yaml", text))
    assert said in str(error.value) and "\n" not in str(error.value)


def test_a_file_that_changed_is_not_used_unnoticed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="0000; put"):
        read(given(tmp_path / "mine.yaml", "reasoning: {instruction: a}", "0" * 64))
    with pytest.raises(UserError, match="missing"):
        read(Prompts(file=tmp_path / "lost.yaml"))
