"""What two medical texts say, apart from how they are written: normal form, and the facts that no rewording may change.

Near-same wording is not the same question: "heart rate 66" and "heart rate 67", a left and a right lung, "is" and "is
not" differ in one shingle of a hundred and in their answer. So the facts of a text (:func:`facts`) are read beside its
wording. Two texts can be duplicates only when their facts are equal; that is an equivalence relation, hence no chain of
near-same texts leads from one fact to another. The reading is of words, not of meaning, and leans to "they differ": a
duplicate missed costs less than a question lost.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from grandrounds.domain.vocabulary import (
    AGES,
    COUNTS,
    NEGATIONS,
    NUMBERED,
    OPPOSITES,
    PREFIXES,
    ROMAN,
    SEXES,
    SIDES,
    SITES,
    UNITS,
)  # fmt: skip

_TOKEN = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+|%|[<>]=?")
_OPTION_LETTER = re.compile(r"\s*[(\[]?[A-Ja-j][.):\]]\s+")  # "A. ", "(b) " before an option
_CONTRACTED_NOT = re.compile(r"n['’]t\b")
_POSSESSIVE = re.compile(r"['’]s\b")
_THOUSANDS = re.compile(r"\d{1,3}(,\d{3})+(\.\d+)?")
_SPELLED = str.maketrans({"α": "alpha ", "β": "beta ", "γ": "gamma ", "μ": "u", "≤": "<=", "≥": ">=", "⁄": "/"})


class Facts(NamedTuple):
    """What a rewording must leave alone, in the order in which :func:`differs` names it.

    Number, side and opposite keep their order ("left arm, right leg" is not "right arm, left leg"), those of options
    apart from those of the question; age, sex and site are sets; negation is a count.
    """

    number: tuple[str, ...]
    unit: tuple[str, ...]
    side: tuple[str, ...]
    age: tuple[str, ...]
    negation: tuple[str, ...]
    sex: tuple[str, ...]
    opposite: tuple[str, ...]
    letter: tuple[str, ...]  # hepatitis B, vitamin K, T1b
    site: tuple[str, ...]


def normalise(text: str) -> str:
    """The normal form: one line of lower-case words and numbers without accents and punctuation.

    The first line of `text` is the question, each further line an option, in any order, lettered or not. "5-year-old"
    and "5 year old", "five years" and "5 years", "1,000" and "1000", "0.50" and "0.5" come to the same. So do lines in
    another order, which is what an order of options is.
    """
    return read(text)[0]


def facts(text: str) -> Facts:
    """The facts of a text, lines as in :func:`normalise`."""
    return read(text)[1]


def read(text: str) -> tuple[str, Facts]:
    """Normal form and facts of a text in one pass."""
    question, options = _lines(text)
    stated, offered = list(_stated(question)), sorted(each for option in options for each in _stated(option))
    found: dict[str, list[str]] = {}
    for what, value in [*stated, *offered]:
        found.setdefault(what, []).append(value)
    for what in ("age", "sex", "site"):
        if what in found:
            found[what] = sorted(set(found[what]))
    normal = " ".join([*question, *(token for option in options for token in option)])
    return normal, Facts(*(tuple(found.get(what, ())) for what in Facts._fields))


def differs(first: str, second: str) -> str:
    """The first of the :class:`Facts` in which two texts differ: "number", "side", ...; "" when they differ in none."""
    both = zip(Facts._fields, facts(first), facts(second), strict=True)
    return next((what for what, ours, theirs in both if ours != theirs), "")


def _lines(text: str) -> tuple[list[str], list[list[str]]]:
    """Tokens of the question, and those of each option, the options in the order of their tokens."""
    question, *options = text.strip().split("\n")
    letters = len(options) > 1
    offered = [_tokens(_OPTION_LETTER.sub("", option, count=1) if letters else option) for option in options]
    return _tokens(question), sorted(filter(None, offered))


def _tokens(text: str) -> list[str]:
    if not text.isascii():
        apart = unicodedata.normalize("NFKD", text)
        text = "".join(c for c in apart if not unicodedata.combining(c)).translate(_SPELLED)
    text = text.casefold()
    if "'" in text or "’" in text:
        text = _POSSESSIVE.sub("", _CONTRACTED_NOT.sub(" not", text))
    out: list[str] = []
    for token in _TOKEN.findall(text):
        if token[0].isdigit():
            token = _number(token)
        elif token in COUNTS:
            token = COUNTS[token]
        elif token in ROMAN and out and out[-1] in NUMBERED:
            token = ROMAN[token]
        elif token == "hg" and out and out[-1] == "mm":
            out[-1] = "mmhg"
            continue
        out.append(token)
    return out


def _number(token: str) -> str:
    """ "1,000" as "1000", "0.50" as "0.5", "007" as "7"; lists such as "1,2" and dates stay as they are."""
    if "," in token and _THOUSANDS.fullmatch(token):
        token = token.replace(",", "")
    whole, point, part = token.partition(".")
    if not point or not part.isdigit():
        return token.lstrip("0") or "0" if token.isdigit() else token
    part = part.rstrip("0")
    return (whole.lstrip("0") or "0") + (f".{part}" if part else "")


def _stated(tokens: Iterable[str]) -> Iterator[tuple[str, str]]:
    """(what, value) of each token that states a fact. A unit is one only behind a number, a % or another unit."""
    measured = False
    for token in tokens:
        if token[0].isdigit() or token[0] in "<>":
            measured = True
            yield "number", token
            continue
        if measured and token in UNITS:
            yield "unit", UNITS[token]
            continue
        behind_number, measured = measured, measured and token == "per"
        if len(token) == 1 and (token not in "aio" or behind_number):
            yield "letter", token
        elif token in NEGATIONS:
            yield "negation", NEGATIONS[token]
        elif token in SIDES:
            yield "side", SIDES[token]
        elif token in OPPOSITES:
            yield "opposite", OPPOSITES[token]
        elif token in SITES:
            yield "site", SITES[token]
        elif token.startswith(PREFIXES):
            yield "opposite", next(prefix for prefix in PREFIXES if token.startswith(prefix))
        else:
            if token in AGES:
                yield "age", AGES[token]
            if token in SEXES:
                yield "sex", SEXES[token]
