"""The data behind the case browser: questions with every arm's answer, as JSON that a page holds in a script element.

A page must stay light, so whole questions are taken, in turn from every stratum (split, specialty, and whether all,
some or no arm is right), until a size is reached; all of the rest is in data/predictions. Texts stand in one table and
are named by their number, for small models say the same thing a thousand times; every image is there once, small.
"""

import base64
import functools
import hashlib
import io
import itertools
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from grandrounds.records import Prediction, Question, Verdict
from grandrounds.reporting.escaping import visible
from grandrounds.reporting.numbers import words

LONGEST = 4000  # letters shown of one text
SMALL = 30_000  # bytes of an image that is shown as it is
OF_BENCHMARKS = "../benchmarks/images/"  # how their questions name pictures, from data/curated/images on
SIDE = 384  # pixels of the longer side of a thumbnail
WRONG, RIGHT, UNPARSED = 0, 1, 2
_MAGIC = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}
# inside a script element only these could end it or open a comment; as JSON escapes they mean the same
_ESCAPES = {ord("<"): "\\u003c", ord(">"): "\\u003e", ord("&"): "\\u0026"}

Answers = Mapping[str, Mapping[str, Prediction]]  # arm -> question id -> its answer
Verdicts = Mapping[tuple[str, str], Sequence[Verdict]]  # (arm, question id) -> one a judge


def payload(
    questions: Iterable[Question],
    answers: Answers,
    verdicts: Verdicts,
    titles: Mapping[str, str],
    root: Path,
    room: int,
) -> tuple[str, int, int]:
    """(JSON, questions in it, predictions in it): at most `room` bytes, and at least one question if there is any.

    `titles`: arm -> what it is called, in the order in which arms are shown.
    """
    table = _Table()
    judges = sorted({verdict.judge for found in verdicts.values() for verdict in found})
    cases: list[list[Any]] = []
    images: dict[str, str] = {}
    used, shown = 0, 0
    for question in in_turn(questions, answers):
        before, size, picture = len(table.texts), table.size, ""
        replies = [_reply(answers[arm].get(question.id), verdicts, judges, table) for arm in titles]
        row = _case(question, replies, table)
        pictured = images_of(question)
        if pictured and pictured not in images:
            picture = thumbnail(root, question.images)
        used += table.size - size + len(picture) + len(json.dumps(row, separators=(",", ":"))) + 1
        if cases and used > room:
            table.cut(before)
            break
        if pictured:
            images.setdefault(pictured, picture)
        cases.append(row)
        shown += sum(reply is not None for reply in replies)
    value = {
        "arms": [[arm, visible(title)] for arm, title in titles.items()],
        "judges": [visible(judge) for judge in judges],
        "texts": list(table.texts),
        "images": {visible(name): url for name, url in images.items() if url},
        "cases": cases,
    }
    return inert(value), len(cases), shown


def inert(value: Any) -> str:
    """JSON that stays one text node inside a script element, whatever its strings hold; ASCII only."""
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":")).translate(_ESCAPES)


def in_turn(questions: Iterable[Question], answers: Answers) -> list[Question]:
    """One question of every stratum, then a second of each, and so on; within one in the order of the id's hash."""
    strata: dict[tuple[str, str, str], list[Question]] = defaultdict(list)
    for question in sorted(questions, key=lambda each: hashlib.sha256(each.id.encode()).hexdigest()):
        right = [found[question.id].correct for found in answers.values() if question.id in found]
        if right:
            outcome = "all" if all(right) else "some" if any(right) else "none"
            strata[question.split, question.specialty, outcome].append(question)
    rounds = itertools.zip_longest(*(strata[key] for key in sorted(strata)))
    return [question for turn in rounds for question in turn if question is not None]


class _Table:
    """Texts by their number, each once."""

    def __init__(self) -> None:
        self.texts: dict[str, int] = {}
        self.size = 0  # bytes of the texts as they will be written

    def __call__(self, text: str) -> int:
        text = visible(cut(text))
        if text not in self.texts:
            self.size += len(inert(text)) + 1
        return self.texts.setdefault(text, len(self.texts))

    def cut(self, count: int) -> None:
        """Keep the first `count` texts."""
        self.texts = dict(itertools.islice(self.texts.items(), count))


def _case(question: Question, replies: list[Any], table: _Table) -> list[Any]:
    """The fields that cases.js reads, by position."""
    return [
        table(question.split),
        table(words(question.specialty)),
        table(question.topic),
        table(words(question.modality)),
        table(words(question.kind)),
        table(question.id),
        table(question.question),
        [table(option) for option in question.options],
        table(question.answer),
        table(question.explanation),
        table(images_of(question)),
        replies,
    ]


def _reply(row: Prediction | None, verdicts: Verdicts, judges: Sequence[str], table: _Table) -> list[Any] | None:
    """[thinking, answer, state, [[judge, final, reasoning, evaluation], ...]]; None where the arm was not asked."""
    if row is None:
        return None
    state = RIGHT if row.correct else WRONG if row.extracted else UNPARSED
    said = [
        [judges.index(each.judge), each.prediction_score, each.reasoning_score, table(each.evaluation)]
        for each in verdicts.get((row.arm, row.question_id), ())
    ]
    return [table(thinking(row.completion)), table(row.answer), state, said]


def thinking(completion: str) -> str:
    """What stands inside the one think block, to be shown; the whole completion when there is not exactly one.

    For display only: what counts as an answer is the verifier's business (`grandrounds.domain.answers`).
    """
    head, opened, rest = completion.partition("<think>")
    inside, closed, tail = rest.partition("</think>")
    if opened and closed and not head.strip() and "<think>" not in rest and "</think>" not in tail:
        return inside.strip()
    return completion.strip()


def cut(text: str, longest: int = LONGEST) -> str:
    return text if len(text) <= longest else f"{text[:longest]} … ({len(text) - longest:,} letters more)"


def images_of(question: Question) -> str:
    """The name of what is shown of a question's images, "" where it has none."""
    return " + ".join(question.images)


def thumbnail(root: Path, names: Sequence[str], side: int = SIDE) -> str:
    """A question's images as one data URL, side by side, each at most `side` pixels wide and high unless it is small.

    Empty unless all are whole PNG or JPEG files directly inside data/curated/images of the project folder `root`, or
    inside the benchmarks' folder of images.
    """
    return _thumbnail(root, tuple(names), side)


@functools.lru_cache(maxsize=4096)
def _thumbnail(root: Path, names: tuple[str, ...], side: int) -> str:
    contents = [_content(root / "data/curated/images", name) for name in names]
    if not contents or not all(contents):
        return ""
    if len(contents) == 1 and len(contents[0]) <= SMALL:
        kind = next(kind for magic, kind in _MAGIC.items() if contents[0].startswith(magic))
        return _data_url(kind, contents[0])
    return _data_url("image/jpeg", _shrunk(contents, side))


def _content(folder: Path, name: str) -> bytes:
    plain, path = name.removeprefix(OF_BENCHMARKS), folder / name
    if Path(plain).name != plain or not path.is_file():
        return b""
    content = path.read_bytes()
    return content if content.startswith(tuple(_MAGIC)) else b""


def _data_url(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}" if content else ""


def _shrunk(contents: Sequence[bytes], side: int) -> bytes:
    """The images side by side as one small JPEG, without metadata; empty where one of them cannot be read."""
    from PIL import Image, UnidentifiedImageError

    small = []
    try:
        for content in contents:
            with Image.open(io.BytesIO(content), formats=("PNG", "JPEG")) as image:
                image.thumbnail((side, side))
                small.append(image.convert("RGB"))
    except (OSError, ValueError, UnidentifiedImageError, Image.DecompressionBombError):
        return b""
    strip = Image.new("RGB", (sum(each.width for each in small), max(each.height for each in small)), "white")
    left = 0
    for each in small:
        strip.paste(each, (left, 0))
        left += each.width
    made = io.BytesIO()
    strip.save(made, "JPEG", quality=80)
    return made.getvalue()
