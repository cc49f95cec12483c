"""Which questions a system trains on, and in which order."""

import dataclasses
from pathlib import Path

import pytest

from grandrounds import files
from grandrounds.params import GrpoItem
from grandrounds.records import Difficulty, Question
from tasks import grpo


def counted(name: str, drawn: int, correct: int, kept: bool = True) -> Difficulty:
    return Difficulty(name, "other", "t", "yes_no", 8, drawn, drawn, correct, kept, "kept" if kept else "too_easy")


def test_easy_to_hard_ranks_counts_that_stopped_early_by_what_they_lead_one_to_expect(
    corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    texts = [dataclasses.replace(each, id=name) for each, name in zip(corpus[0]["train"], "abcde", strict=False)]
    files.write(grpo.QUESTIONS, texts, Question)
    rows = [counted("a", 8, 1), counted("b", 3, 2), counted("c", 8, 5), counted("d", 8, 3), counted("e", 8, 8, False)]
    files.write("data/filtered/text.parquet", rows, Difficulty)
    settings = {"questions": "data/filtered/text.parquet", "init": "models/base", "rewards": {"format": 1.0}}
    found = grpo.chosen(GrpoItem(**settings))
    assert [each.id for each in found] == ["a", "b", "c", "d"]
    # b: 2 of 3 drawn, which as a complete count of 8 would be harder than 3 of 8
    ordered = grpo.chosen(GrpoItem(**settings, order="easy_to_hard"))
    assert [each.id for each in ordered] == ["b", "c", "d", "a"]
