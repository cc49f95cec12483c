"""Options and answers in all the ways that sets write them, and what contradicts itself."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grandrounds.sources import options
from grandrounds.sources.store import Refused

THREE = ["the heart", "the liver", "A. fever"]
CODE = "__import__('os').system('true')"
TEXTS = st.lists(st.text("abc deé", min_size=1).map(str.strip).filter(bool), min_size=2, max_size=9)


@pytest.mark.parametrize(
    "given",
    [
        ["x", "y"],
        {"B": "y", "A": "x"},
        '{"A": "x", "B": "y"}',
        '["x", "y"]',
        "['x', \"y\"]",
        "A. x\nB. y",
        "A: x\n\nB: y\n",
        "(A) x\n(B) y",
        [" A:x", " B:y"],
        {"A": "x", "B": "y", "C": None},
    ],
)
def test_every_way_to_write_options(given) -> None:
    assert options.parse(given) == ["x", "y"]


@given(TEXTS)
def test_json_options_come_back(texts: list[str]) -> None:
    assert options.parse(json.dumps(texts)) == texts
    assert options.parse(json.dumps(dict(zip(options.LETTERS, texts, strict=False)))) == texts


@given(TEXTS)
def test_a_prompt_is_split_where_its_options_begin(texts: list[str]) -> None:
    lines = "\n".join(f"{letter}. {text}" for letter, text in zip(options.LETTERS, texts, strict=False))
    assert options.split(f"Vitamin A.\nWhich?\n\n{lines}\n") == ("Vitamin A.\nWhich?", texts)
    assert options.split("Which?\nA. one line is none") == ("Which?\nA. one line is none", [])


@pytest.mark.parametrize("given", ["{'A': ", "x; y", CODE, {"A": "x", "C": "y"}, 3, [["x"]]])
def test_what_is_no_list_of_options(given) -> None:
    with pytest.raises(Refused, match="options"):
        options.parse(given)


def test_a_letter_belongs_to_the_text_unless_all_have_theirs() -> None:
    assert options.unlettered(THREE) == THREE


@pytest.mark.parametrize(
    ("label", "answer", "letter"),
    [
        ("B", None, "B"), ("(b)", "", "B"), (1, None, "B"), ("1", None, "B"), ("", "The  LIVER.", "B"),
        (None, "B", "B"), (None, "B. the liver", "B"), ("B", "the liver", "B"), (None, 0, "A"), ("C", "A. fever", "C"),
    ],
)  # fmt: skip
def test_who_is_meant(label, answer, letter: str) -> None:
    assert options.choose(THREE, label, answer) == letter


@pytest.mark.parametrize(
    ("choices", "label", "answer", "column", "words"),
    [
        (THREE, "D", None, "label", "'D' is no option; there are 3"),
        (THREE, "7", None, "label", "no option"),
        (THREE, "", " ", "answer", "empty"),
        (THREE, None, "the lung", "answer", "none of the options"),
        (THREE, "A", "the liver", "answer", "the letter says A, the answer's text is B"),
        (["B", "A", "0"], None, "A", "answer", "an option's text and another's letter"),
        (["x"], "A", None, "", "1 options"),
        (["x", "X "], "A", None, "", "two are the same"),
        (["x", ""], "A", None, "", "an option is empty"),
    ],
)
def test_what_contradicts_itself_is_refused(choices, label, answer, column: str, words: str) -> None:
    with pytest.raises(Refused) as caught:
        options.choose(choices, label, answer)
    assert words in caught.value.reason and caught.value.column == column


@given(TEXTS.filter(lambda texts: len({" ".join(text.split()) for text in texts}) == len(texts)), st.data())
def test_letter_and_text_agree_on_any_options(texts: list[str], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(texts) - 1))
    assert options.choose(texts, options.LETTERS[place], texts[place]) == options.LETTERS[place]
