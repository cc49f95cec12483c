"""How a published set is laid out, as data; and how one of its rows becomes a draft of a question.

An adapter is a :class:`Layout`: its tables, which column holds what, its licence and citation. Where a set needs more,
`read` is a function of its own over :func:`plain`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from grandrounds.params import Columns
from grandrounds.sources import options
from grandrounds.sources.images import BYTES
from grandrounds.sources.rows import Row
from grandrounds.sources.store import Refused, Store

if TYPE_CHECKING:
    from PIL.Image import Image

MOST = 16  # pictures of one question
LONGEST = 20_000  # letters of one text: beyond it a row is no question, but a file in a cell


@dataclass(frozen=True)
class Licence:
    """What may be done with a set. `redistribute` False: its questions and pictures stay out of what is handed on."""

    name: str
    redistribute: bool
    derivatives: bool = True  # whether models may be derived from it and handed on
    note: str = ""


@dataclass(frozen=True)
class Draft:
    """A question as its source has it, before pictures are stored and specialties given."""

    question: str
    answer: str
    options: list[str] = field(default_factory=list)
    label: str = ""
    synonyms: list[str] = field(default_factory=list)  # other answers that are as right
    explanation: str = ""
    pictures: "Sequence[bytes | Image]" = ()
    id: str = ""  # the source's own
    group: str = ""  # the source's own; "": the picture, or the question, is its own group
    topic: str = ""
    specialty: str = ""
    subject: str = ""
    imaging: str = ""


Reader = Callable[[Row, "Layout", Store], Draft]


@dataclass(frozen=True)
class Layout:
    """One published set. `tables`: its own splits, and the globs of their files."""

    name: str
    home: str  # the repository, or page, that gives it out
    citation: str
    licence: Licence
    tables: Mapping[str, tuple[str, ...]]
    columns: Columns
    pictures: Literal["none", "optional", "required"] = "required"
    more: tuple[str, ...] = ()  # globs of what a hub snapshot needs beside the tables: pictures
    header: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # of tables that have none, by split
    left_out: Callable[[Row, str], str] = lambda row, split: ""  # why a row is not meant (another language), or ""
    read: Reader = lambda row, layout, store: plain(row, layout, store)


def plain(row: Row, layout: Layout, store: Store) -> Draft:
    """The draft of a row whose columns say all. Raises Refused with the column that is wrong."""
    columns = layout.columns
    question = text(row, columns.question, required=True)
    explanation = text(row, columns.explanation)
    pictures = _pictures(row, layout, store)
    about: dict[str, Any] = {
        name: text(row, getattr(columns, name)) for name in ("id", "group", "topic", "specialty", "subject", "imaging")
    }
    choices = _choices(row, columns)
    if choices is None:
        answer = text(row, columns.answer, required=True)
        return Draft(question, answer, explanation=explanation, pictures=pictures, **about)
    return choice(Draft(question, "", explanation=explanation, pictures=pictures, **about), row, columns, choices)


def choice(draft: Draft, row: Row, columns: Columns, choices: list[str]) -> Draft:
    """The draft of a question with options, by the row's label, its answer, or both."""
    label, answer = value(row, columns.label)[1], value(row, columns.answer)[1]
    try:
        letter = options.choose(choices, label, answer)
    except Refused as refused:
        at_fault = {"label": columns.label, "answer": columns.answer}
        named = at_fault.get(refused.column, columns.options or columns.choices)
        raise Refused(refused.reason, (value(row, named)[0] or named[0]) if named else "") from None
    return replace(draft, options=choices, label=letter, answer=choices[options.LETTERS.index(letter)])


def value(row: Row, names: tuple[str, ...]) -> tuple[str, Any]:
    """(column, its value) of the first of the names that the row has; ("", None) when it has none."""
    return next(((name, row.values[name]) for name in names if name in row.values), ("", None))


def text(row: Row, names: tuple[str, ...], *, required: bool = False) -> str:
    """A cell as text, "" when there is none. Raises Refused for a value that is no text, one far too long, or none."""
    name, given = value(row, names)
    if given is None:
        given = ""
    if not isinstance(given, str | int | float):
        raise Refused("neither text nor a number", name)
    found = str(given).replace("\x00", "").strip()
    if len(found) > LONGEST:
        raise Refused(f"{len(found)} letters; {LONGEST} are allowed", name)
    if required and not found:
        raise Refused("empty, or not there", name or " or ".join(names))
    return found


def _choices(row: Row, columns: Columns) -> list[str] | None:
    """The options, or None where the row has none."""
    found = [text(row, (name,)) for name in columns.choices]
    while found and not found[-1]:  # a set with up to five options leaves the last cells empty
        found.pop()
    if found:
        return options.unlettered(found)
    name, given = value(row, columns.options)
    if given is None or given in ("", [], {}):
        return None
    try:
        return options.parse(given) or None
    except Refused as refused:
        raise refused.at(name) from None


def _pictures(row: Row, layout: Layout, store: Store) -> list[bytes]:
    """The pictures' files, in order: named in the row, or in the row itself as the hub stores them ({bytes, path})."""
    name, given = value(row, layout.columns.image)
    several = [each for each in (given if isinstance(given, list) else [given]) if each not in (None, "")]
    try:
        if not several or layout.pictures == "none":
            if layout.pictures == "required":
                raise Refused("no picture is given", name or " or ".join(layout.columns.image))
            return []
        if len(several) > MOST:
            raise Refused(f"{len(several)} pictures; {MOST} are allowed")
        return [_picture(each, store) for each in several]
    except Refused as refused:
        raise refused.at(name) from None


def _picture(given: Any, store: Store) -> bytes:
    if isinstance(given, dict):
        given = given.get("bytes") or given.get("path")
    if isinstance(given, bytes):
        return given
    if not isinstance(given, str):
        raise Refused("neither a file name nor a picture")
    return store.read(store.find(given), BYTES)
