"""Options and answers of multiple choice as published sets write them, in one form: texts in order, and a letter."""

import ast
import json
import re
from collections.abc import Sequence
from typing import Any

from grandrounds.sources.store import Refused

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_LETTERED = re.compile(r"^\s*\(?([A-Z])\s*[).:]\s*(.*?)\s*$", re.DOTALL)  # "A. text", "(B) text", "C:text"
_ALONE = re.compile(r"^\s*\(?([A-Za-z])[).:]?\s*$")


def parse(given: Any) -> list[str]:
    """Options in order, without their letters, of: a list; an object by letter; JSON of either; a Python list (MMMU);
    one option a line, lettered. Raises Refused for anything else.
    """
    value = _decoded(given) if isinstance(given, str) else given
    if isinstance(value, dict):
        present = {str(key).strip().upper(): text for key, text in value.items() if text is not None}
        if sorted(present) != list(LETTERS[: len(present)]):
            raise Refused(f"the options are lettered {', '.join(sorted(present))}, not A, B, ... in turn")
        value = [present[letter] for letter in sorted(present)]
    if not isinstance(value, list) or not all(isinstance(each, str | int | float) for each in value):
        raise Refused("the options are no list of texts and no object of them by letter")
    return unlettered([str(each).strip() for each in value])


def _decoded(text: str) -> Any:
    if not text.strip():
        return []
    for read in (json.loads, ast.literal_eval):  # a literal runs no code
        try:
            value = read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(value, list | dict):
            return value
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) > 1 and all(_LETTERED.match(line) for line in lines):
        return lines
    raise Refused("the options cannot be parsed: neither JSON, nor a list, nor one lettered option a line")


def unlettered(options: Sequence[str]) -> list[str]:
    """The options without "A.", "B:", ... in front, when all of them have the letter of their place."""
    found = [_LETTERED.match(option) for option in options]
    if all(match and match[1] == letter for match, letter in zip(found, LETTERS, strict=False)):
        return [match[2] for match in found if match]
    return list(options)


def split(prompt: str) -> tuple[str, list[str]]:
    """A prompt that ends with lettered options, one a line, as (question, options); no options when it does not."""
    lines = prompt.rstrip().splitlines()
    start = len(lines)
    while start and (_LETTERED.match(lines[start - 1]) or not lines[start - 1].strip()):
        start -= 1
    tail = [line for line in lines[start:] if line.strip()]
    options = unlettered(tail)
    if len(tail) < 2 or options == tail:
        return prompt, []
    return "\n".join(lines[:start]).strip(), options


def choose(options: Sequence[str], label: Any, answer: Any) -> str:
    """The letter of the right option, from a letter or a place (`label`), the answer's text, or both in agreement.

    Raises Refused when options are too few, empty or alike, and when no option, or not the same one, is meant.
    """
    if not 2 <= len(options) <= len(LETTERS):
        raise Refused(f"{len(options)} options; a choice has from 2 to {len(LETTERS)}")
    folded = [_fold(option) for option in options]
    if "" in folded or len(set(folded)) < len(folded):
        raise Refused("an option is empty, or two are the same")
    places = [_place(options, label, "label")] if _given(label) else list(range(len(options)))
    meant = _meant(options, folded, answer) if _given(answer) else set(places)
    if not _given(label) and not _given(answer):
        raise Refused("the answer is empty", "answer")
    both = [place for place in places if place in meant]
    if not both:
        of_text = " or ".join(LETTERS[place] for place in sorted(meant))
        raise Refused(f"the letter says {LETTERS[places[0]]}, the answer's text is {of_text}", "answer")
    if len(both) > 1:  # blood groups A, B, AB, 0
        raise Refused(f"'{answer}' is an option's text and another's letter; use a `label` column", "answer")
    return LETTERS[both[0]]


def _meant(options: Sequence[str], folded: list[str], answer: Any) -> set[int]:
    """The options that an answer can mean: by its text, with or without a letter before it, or by the letter alone."""
    text = str(answer)
    lettered = _LETTERED.match(text)
    forms = {_fold(text), _fold(lettered[2]) if lettered else _fold(text)}
    meant = {place for place, option in enumerate(folded) if option in forms}
    letter = isinstance(answer, int) or _ALONE.match(text)
    if letter and not (meant and _number(text) >= len(options)):
        meant.add(_place(options, answer, "answer"))
    if not meant:
        raise Refused(f"the answer '{text[:60]}' is none of the options", "answer")
    return meant


def _number(given: Any) -> int:
    """A letter, or a number counted from 0, as a number; -1 for anything else."""
    alone = _ALONE.match(str(given))
    return LETTERS.index(alone[1].upper()) if alone else int(given) if re.fullmatch(r"\d{1,2}", str(given)) else -1


def _place(options: Sequence[str], given: Any, column: str) -> int:
    place = _number(given)
    if not 0 <= place < len(options):
        raise Refused(f"'{str(given)[:60]}' is no option; there are {len(options)}", column)
    return place


def _given(value: Any) -> bool:
    return value is not None and str(value).strip() != ""


def _fold(text: str) -> str:
    return " ".join(text.casefold().split()).rstrip(".")
