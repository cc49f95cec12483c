"""Reading an answer out of a completion, and checking it: the only extractor.

Rewards, filter, distillation and scoring all use it.

Strict form (MedVLThinker's, made stricter: exactly one of each block):

    <think> ... </think> <answer> ... </answer>      with thinking, and nothing but white space around
    <answer> ... </answer>                           without thinking

Tags that only look like ours (other case, inner spaces, full-width or zero-width characters) count as tags, so that
they cannot hide a second block, but they are never the exact form. Whatever the text, one linear scan that stops after
`MAX_TAGS` tags reads it, and an answer longer than `MAX_ANSWER` characters is compared with nothing.
"""

import functools
import re
import unicodedata
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice, pairwise
from typing import NamedTuple

from grandrounds.records import Extraction, Question

MAX_TAGS = 64
MAX_ANSWER = 2000  # characters

_LESS, _MORE = "<\uff1c\ufe64", ">\uff1e\ufe65"  # what NFKC maps to < and >
_ASCII_TAG = re.compile(r"<[ \t\n]{0,4}/?[ \t\n]{0,4}(?:think|answer)[ \t\n]{0,4}>", re.IGNORECASE)
_ANY_TAG = re.compile(f"[{_LESS}][^{_LESS}{_MORE}]{{5,32}}[{_MORE}]")
_NAMES = {"<think>": "think", "</think>": "/think", "<answer>": "answer", "</answer>": "/answer"}


@dataclass(frozen=True, slots=True)
class Verification:
    """What :func:`verify` found. `correct` implies `extracted`, and when strict also `format_ok`."""

    extracted: bool
    correct: bool
    format_ok: bool  # always the strict form's
    answer: str  # as extracted, "" when not


class _Tag(NamedTuple):
    name: str  # "think", "/think", "answer", "/answer"
    start: int
    end: int
    exact: bool


def extract(completion: str, *, thinking: bool = True, strict: bool = True) -> Extraction:
    """Read the answer and the thinking of a completion (with the text that its prompt prefilled).

    Strict: the answer is that of the only answer block, which stands outside the thinking and is not empty; `format_ok`
    says whether the whole completion has the exact form, and `problem` the first thing that is wrong. Not strict: the
    last answer block, even one left open, else a closing statement ("the answer is ...", or one line after the
    thinking).
    """
    tags = _tags(completion)
    thoughts = _thinking(completion, tags)
    answer, problem = _only_answer(completion, tags)
    problem = problem or _form_problem(completion, tags, thinking)
    format_ok = not problem
    if not strict:
        found = _lenient_candidates(completion, tags)
        answer = found[-1] if found else None
        problem = "" if found else problem or "no_answer"
    return Extraction(answer, thoughts, format_ok, problem)


def verify(question: Question, completion: str, *, strict: bool = True, thinking: bool = True) -> Verification:
    """Extract and check. An empty, missing, doubled, nested or contradictory answer is never correct, strict or not."""
    read = extract(completion, thinking=thinking, strict=strict)
    if read.answer is None:
        return Verification(False, False, read.format_ok, "")
    if strict:
        correct = read.format_ok and matches(question, read.answer)
    else:  # every block and statement has to be right, or they contradict one another
        correct = all(_lenient_match(question, text) for text in _lenient_candidates(completion, _tags(completion)))
    return Verification(True, correct, read.format_ok, read.answer)


def thinking_of(completion: str) -> str:
    """The thinking in a completion, "" when there is none. A block left open ends at the answer or with the text."""
    return _thinking(completion, _tags(completion))


def tags_in(completion: str) -> frozenset[str]:
    """Which of think, /think, answer, /answer stand somewhere in the text, look-alikes included."""
    return frozenset(tag.name for tag in _tags(completion))


def matches(question: Question, answer: str) -> bool:
    """Whether an extracted answer is the right one, and no other.

    With options: the right option's letter (only where the prompt lettered them), its text, or "letter. text". A text
    that can be read as two different options is wrong. Otherwise: equal after :func:`normalise` to the answer or a
    synonym.
    """
    if len(answer) > MAX_ANSWER:
        return False
    if question.options:
        return _matches_option(question, answer)
    given = normalise(answer)
    return bool(given) and given in _references(question.answer, *question.synonyms)


# --- tags ----------------------------------------------------------------------------------------------------------


def _tags(text: str) -> list[_Tag]:
    """The tags in order, at most MAX_TAGS + 1 of them. Positions are those of the raw text."""
    pattern = _ASCII_TAG if text.isascii() else _ANY_TAG
    found = (_tag(match) for match in pattern.finditer(text))
    return list(islice((tag for tag in found if tag is not None), MAX_TAGS + 1))


def _tag(match: re.Match[str]) -> _Tag | None:
    raw = match.group()
    name = _NAMES.get(raw)
    if name is not None:
        return _Tag(name, match.start(), match.end(), True)
    name = _NAMES.get("".join(_fold(raw).split()))
    return _Tag(name, match.start(), match.end(), False) if name else None


def _thinking(text: str, tags: list[_Tag]) -> str:
    first = next((i for i, tag in enumerate(tags) if tag.name in ("think", "/think")), None)
    if first is None:
        return ""
    if tags[first].name == "/think":  # the opening tag stands in the prompt
        return text[: tags[first].start].strip()
    close = next((tag for tag in tags[first + 1 :] if tag.name == "/think"), None)
    close = close or next((tag for tag in tags[first + 1 :] if tag.name == "answer"), None)
    return text[tags[first].end : close.start if close else len(text)].strip()


def _only_answer(text: str, tags: list[_Tag]) -> tuple[str | None, str]:
    """The text of the only answer block, or None and the reason."""
    if len(tags) > MAX_TAGS:
        return None, "too_many_tags"
    opened = [i for i, tag in enumerate(tags) if tag.name == "answer"]
    closed = [i for i, tag in enumerate(tags) if tag.name == "/answer"]
    if not opened:
        return None, "unopened_answer" if closed else "no_answer_block"
    if len(opened) > 1 or len(closed) > 1:
        return None, "two_answer_blocks"
    if not closed or closed[0] < opened[0]:
        return None, "unclosed_answer"
    if closed[0] != opened[0] + 1:
        return None, "tag_inside_answer"
    before = [tag.name for tag in tags[: opened[0]]]
    if before and before[-1] == "think":
        return None, "answer_inside_thinking"
    answer = _visible(text[tags[opened[0]].end : tags[closed[0]].start])
    return (answer, "") if answer else (None, "empty_answer")


def _form_problem(text: str, tags: list[_Tag], thinking: bool) -> str:
    """Why the whole text, which has one answer block, is not of the exact form; "" when it is."""
    names = [tag.name for tag in tags]
    if thinking and names != ["think", "/think", "answer", "/answer"]:
        thinks = names.count("think"), names.count("/think")
        if thinks == (0, 0):
            return "no_think_block"
        return "two_think_blocks" if max(thinks) > 1 else "blocks_out_of_order"
    if not thinking and names != ["answer", "/answer"]:
        return "think_block_not_asked_for"
    if not all(tag.exact for tag in tags):
        return "tags_not_exact"
    outside = [text[: tags[0].start], text[tags[-1].end :]]
    if thinking:
        outside.append(text[tags[1].end : tags[2].start])
    return "text_outside_blocks" if any(part.strip() for part in outside) else ""


# --- lenient reading, for the side figure --------------------------------------------------------------------------

_STATEMENT = re.compile(r"\banswer[ \t*_\"']{0,6}(?:is|would be|:|=)[ \t:*_\"']{0,6}([^\n]{1,400})", re.IGNORECASE)
_SENTENCE_END = re.compile(r"(?<!^[A-Za-z])[.;!?]\s")
_FIRST_WORD = re.compile(r"(?<=^yes)\W|(?<=^no)\W", re.IGNORECASE)
_WRAPPING = re.compile(r"\\boxed\{([^{}]{0,400})\}|(?:option|choice)\s([^\n]{1,400})", re.IGNORECASE)
_DOUBTS = frozenset({"not", "or", "but", "however", "actually", "nor", "neither", "rather"})


def _lenient_candidates(text: str, tags: list[_Tag]) -> list[str]:
    """All that the text gives as its answer, in order: answer blocks and statements outside the thinking."""
    if len(tags) > MAX_TAGS:
        return []
    edges = [*tags, _Tag("end", len(text), len(text), True)]
    blocks: list[str] = []
    outside: list[str] = [text[: edges[0].start]] if edges[0].name != "/think" else []
    for tag, following in pairwise(edges):
        part = text[tag.end : following.start]
        if tag.name == "answer" or (tag.name == "/answer" and following.name == "/answer"):
            blocks.append(part)
        elif tag.name != "think" and following.name != "/think":
            outside.append(part)
    said = [match.group(1) for part in outside for match in islice(_STATEMENT.finditer(part[-20000:]), 8)]
    found = [answer for answer in map(_visible, [*said, *blocks]) if answer]
    if found or blocks:
        return found
    last = next((part.strip() for part in reversed(outside) if part.strip()), "")
    return [last] if len(last) <= 400 and "\n" not in last and _visible(last) else []


def _lenient_match(question: Question, text: str) -> bool:
    """The whole is right, or its first sentence is and the rest neither doubts it nor names another answer."""
    if len(text) > MAX_ANSWER:
        return False
    if matches(question, _unwrap(text)):
        return True
    end = _FIRST_WORD if question.kind == "yes_no" else _SENTENCE_END
    first, *rest = end.split(text.strip(), maxsplit=1)
    return bool(rest) and matches(question, _unwrap(first)) and not _names_another(question, rest[0])


def _unwrap(text: str) -> str:
    """Without what people write around an answer: "answer:", markdown, quotes, a LaTeX box."""
    stated = _STATEMENT.fullmatch(text.strip())
    text = (stated.group(1) if stated else text).strip(" \t\n*_`\"'$")
    wrapped = _WRAPPING.fullmatch(text.rstrip("."))
    return next(group for group in wrapped.groups() if group is not None) if wrapped else text


def _names_another(question: Question, rest: str) -> bool:
    words = normalise(rest).split()
    if not _DOUBTS.isdisjoint(words) or (question.kind == "yes_no" and not {"yes", "no"}.isdisjoint(words)):
        return True
    letters = {chr(65 + i) for i in range(len(question.options))} - {question.label} if question.label else set()
    wrong = [normalise(option) for option in question.options if fold(option) != fold(question.answer)]
    said = f" {' '.join(words)} "
    return any(f" {option} " in said for option in wrong) or not letters.isdisjoint(re.findall(r"\b[A-Z]\b", rest))


# --- the right answer ----------------------------------------------------------------------------------------------

_LETTER = re.compile(r"[(\[]?([a-z])[)\].:]{0,2}")
_LETTER_AND_TEXT = re.compile(r"[(\[]?([a-z])[)\].:]{1,2}\s*(\S.*)", re.DOTALL)


def _matches_option(question: Question, answer: str) -> bool:
    """Every reading of the answer as an option has to be the right one; there has to be one."""
    right = fold(question.answer)
    text = fold(answer.strip(" \t\n*_`\"'"))
    named = _options_with_text(question, text)
    if question.label:
        letter, both = _LETTER.fullmatch(text), _LETTER_AND_TEXT.fullmatch(text)
        if letter and ord(letter[1]) - 97 < len(question.options):
            named.add(fold(question.options[ord(letter[1]) - 97]))
        elif both and ord(both[1]) - 97 < len(question.options):
            told = _options_with_text(question, both[2])
            named |= told | {fold(question.options[ord(both[1]) - 97])} if told else set()
    return named == {right}


def _options_with_text(question: Question, text: str) -> set[str]:
    """The (folded) options that a text is: to the letter, else as normalised. Synonyms stand for the right one."""
    exact = {option for option in map(fold, question.options) if option == text}
    plain = normalise(text)
    if exact or not plain:
        return exact
    named = {fold(option) for option in question.options if normalise(option) == plain}
    if plain in _references(*question.synonyms):
        named.add(fold(question.answer))
    return named


@functools.lru_cache(maxsize=65536)
def _references(*texts: str) -> frozenset[str]:
    return frozenset(normalise(text) for text in texts) - {""}


# --- normalising ---------------------------------------------------------------------------------------------------

_SUPERSCRIPT = str.maketrans("\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079\u207a\u207b", "0123456789+-")
_SUPERSCRIPTS = re.compile("[\u2070\u00b9\u00b2\u00b3\u2074-\u207b]+")
_FRACTIONS = re.compile("[\u00bc-\u00be\u2150-\u215e]")
_SIGNS = str.maketrans(
    {c: "-" for c in "\u2010\u2011\u2012\u2013\u2014\u2015\u2212"}
    | {"\u2264": "<=", "\u2265": ">=", "\u2a7d": "<=", "\u2a7e": ">=", "\u2044": "/", "\u00d7": " x ", "\u03bc": "u"}
    | {c: None for c in "'\u2018\u2019\u02bc"}
)
_TOKEN = re.compile(
    r"\d{1,3}(?:,\d{3})+(?:\.\d+)?(?![\d,])|\d+(?:\.\d+)?|\.\d+|[^\W\d_]+|<=|>=|[<>=+%/^~\u00b0\u00b1]|-(?=[\d.])|(?<=\w)-(?=\s|$)"
)
_ARTICLE = re.compile(r"^\s*an?\s+(?=[^\W\d_])", re.IGNORECASE)  # not in hepatitis A, A+, A. flu
_WORDS = {"per": "/", "percent": "%", "mcg": "ug", "microgram": "ug", "micrograms": "ug"}
_NUMBERS = "zero one two three four five six seven eight nine ten eleven twelve"
_WORDS |= {word: str(i) for i, word in enumerate(_NUMBERS.split())}

# base unit -> how many of it -> the unit as written after a number, spaces between tokens ("per" is "/" by then)
_UNIT_TABLE = {
    "/min": {"1": "bpm, / min, / minute, beats / min, beats / minute, breaths / min, breaths / minute"},
    "mmhg": {"1": "mmhg, mm hg, millimeters of mercury, millimetres of mercury"},
    "celsius": {"1": "c, celsius, \u00b0 c, \u00b0 celsius, deg c, degrees c, degree celsius, degrees celsius"},
    "fahrenheit": {"1": "f, fahrenheit, \u00b0 f, \u00b0 fahrenheit, deg f, degrees f, degrees fahrenheit"},
    "%": {"1": "/ cent"},
    "db": {"1": "db, decibel, decibels"},
    "g": {"1000": "kg, kilogram, kilograms", "1": "g, gram, grams", "0.001": "mg, milligram, milligrams", "1e-6": "ug"},
    "l": {
        "1": "l, liter, liters, litre, litres",
        "0.1": "dl, deciliter, deciliters",
        "0.001": "ml, cc, milliliter, milliliters, millilitre, millilitres",
    },
    "m": {
        "1": "m, meter, meters, metre, metres",
        "0.01": "cm, centimeter, centimeters, centimetre, centimetres",
        "0.001": "mm, millimeter, millimeters, millimetre, millimetres",
    },
    "s": {
        "1": "s, sec, second, seconds",
        "60": "min, minute, minutes",
        "3600": "h, hr, hour, hours",
        "86400": "day, days",
        "604800": "week, weeks",
    },
    "month": {"1": "month, months", "12": "year, years, yr, yrs"},
}
_UNITS = {
    written: (base, Decimal(factor))
    for base, factors in _UNIT_TABLE.items()
    for factor, all_written in factors.items()
    for written in all_written.split(", ")
}
_LONGEST_UNIT = max(len(unit.split()) for unit in _UNITS)


def fold(text: str) -> str:
    """Same letters, whatever the case, width, spacing or invisible characters. Reads at most MAX_ANSWER characters."""
    return " ".join(_fold(text[:MAX_ANSWER]).split())


def _fold(text: str) -> str:
    if not text.isascii():
        text = unicodedata.normalize("NFKC", "".join(c for c in text if unicodedata.category(c) != "Cf"))
    return text.casefold()


def _visible(text: str) -> str:
    """The text without white space around it; "" when nothing in it can be seen."""
    text = text.strip()
    seen = text.isascii() or any(unicodedata.category(c)[0] not in "CZ" for c in text[:MAX_ANSWER])
    return text if seen else ""


@functools.lru_cache(maxsize=65536)
def normalise(text: str) -> str:
    """A form in which equal answers are equal strings: tokens parted by spaces.

    Case, accents, punctuation, "the", and a leading "a" or "an" go; hyphens become spaces; number words become figures;
    1,000 becomes 1000 and 2.50 becomes 2.5; a number with a known unit is put in the base unit (mg to g, hours to s).
    Signs that carry meaning (< > = + - % / and a trailing - as in "Rh-") stay. Over MAX_ANSWER characters: "".
    """
    if len(text) > MAX_ANSWER:
        return ""
    tokens = [_WORDS.get(token, token) for token in _tokens(_ARTICLE.sub("", text))]
    return " ".join(_measured([token for token in tokens if token != "the"]))


def _tokens(text: str) -> list[str]:
    if not text.isascii():
        text = _SUPERSCRIPTS.sub(lambda match: "^" + match.group().translate(_SUPERSCRIPT), text)
        text = _FRACTIONS.sub(lambda match: " " + unicodedata.normalize("NFKC", match.group()), text)
        text = unicodedata.normalize("NFKD", _fold(text))
        text = "".join(c for c in text if not "\u0300" <= c <= "\u036f")
    return _TOKEN.findall(text.casefold().translate(_SIGNS))


def _measured(tokens: list[str]) -> list[str]:
    """Numbers in plain decimal form and base units; a minus is a sign, or "to" between two numbers."""
    out: list[str] = []
    i = 0
    while i < len(tokens):
        token = tokens[i]
        i += 1
        if token == "-" and i < len(tokens) and _is_number(tokens[i]):
            out.append("to" if out and _is_number(out[-1]) else "minus")
        elif not _is_number(token):
            out.append(token)
        else:
            unit, factor, used = _unit(tokens[i : i + _LONGEST_UNIT])
            out.append(f"{(Decimal(token.replace(',', '')) * factor).normalize():f}" if len(token) <= 24 else token)
            out.extend(unit.split())
            i += used
    return out


def _unit(words: list[str]) -> tuple[str, Decimal, int]:
    """The longest known unit that the words begin with, its factor, and how many words it takes."""
    for used in range(len(words), 0, -1):
        found = _UNITS.get(" ".join(words[:used]))
        if found:
            return *found, used
    return "", Decimal(1), 0


def _is_number(token: str) -> bool:
    return token[-1].isdigit()
