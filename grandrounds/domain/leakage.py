"""Splits that share nothing: no group, no question, no picture in two of them.

:func:`shared` says whether any two splits have the very same thing; :func:`leaks` also finds what is nearly the same,
for the caller to take from training. Evaluation sets are never altered: a benchmark without some of its questions is
another benchmark.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from grandrounds.domain.copies import Pair
from grandrounds.domain.duplicates import THRESHOLD, text_pairs, whole_text
from grandrounds.records import Question

# pretrain is what the embedded base is built from; train asks about the same groups again, and is never scored
TOGETHER = frozenset({"pretrain", "train"})


def shared(splits: Mapping[str, Sequence[Question]]) -> dict[str, list[str]]:
    """What two splits have in common, as {"train & test: group": [names]}; empty when nothing leaks."""
    found: dict[str, list[str]] = {}
    for first, second in combinations(splits, 2):
        if {first, second} == TOGETHER:
            continue
        for what, of in (("group", _group), ("question", _text), ("image", _images)):
            ours, theirs = ({each for q in splits[name] for each in of(q)} for name in (first, second))
            both = ours & theirs - {""}
            if both:
                found[f"{first} & {second}: {what}"] = sorted(both)
    return found


@dataclass(frozen=True, slots=True)
class Leak:
    """A row that training or validation has in common with an evaluation set, beside the row that it repeats."""

    row: Question
    against: Question
    what: Literal["group", "image", "question"]
    similarity: float = 1.0  # of the pictures or the texts (copies.Pair)


def leaks(
    rows: Sequence[Question], kept_out: Sequence[Question], images: Iterable[Pair], threshold: float = THRESHOLD
) -> list[Leak]:
    """Each row, once, of which `kept_out` has the group, else the picture, else the question.

    A picture counts as the same by content or as a near-duplicate in `images`. A question counts by its wording where
    there is no picture; one text is asked of many pictures, and there the picture decides.
    """
    groups, pictures = _first(kept_out, _group), _first(kept_out, _images)
    alike = {name: (name, 1.0) for name in pictures}
    for pair in images:
        for ours, theirs in ((pair.first, pair.second), (pair.second, pair.first)):
            if theirs in pictures and pair.similarity > alike.get(ours, ("", 0.0))[1]:
                alike[ours] = theirs, pair.similarity
    asked = _asked(rows, kept_out, threshold)
    found = []
    for row in rows:
        if row.group in groups:
            found.append(Leak(row, groups[row.group], "group"))
        elif known := [alike[image] for image in row.images if image in alike]:
            name, similarity = max(known, key=lambda pair: pair[1])
            found.append(Leak(row, pictures[name], "image", similarity))
        elif row.id in asked:
            found.append(Leak(row, *asked[row.id]))
    return found


def _asked(
    rows: Sequence[Question], kept_out: Sequence[Question], threshold: float
) -> dict[str, tuple[Question, Literal["question"], float]]:
    """By id, the nearest text question of `kept_out` for each text row that is near to one."""
    by_id = {row.id: row for row in kept_out}
    # kept_out comes first, so that every row that repeats one of it is the second of such a pair
    texts = ((row.id, whole_text(row)) for row in (*kept_out, *rows) if not row.image)
    best: dict[str, tuple[Question, Literal["question"], float]] = {}
    for pair in text_pairs(texts, threshold):
        nearer = pair.second not in best or pair.similarity > best[pair.second][2]
        if pair.first in by_id and pair.second not in by_id and nearer:
            best[pair.second] = by_id[pair.first], "question", pair.similarity
    return best


def _first(rows: Iterable[Question], of: Callable[[Question], list[str]]) -> dict[str, Question]:
    """The first row for each thing that rows have, but for the empty one."""
    found: dict[str, Question] = {}
    for row in rows:
        for each in of(row):
            found.setdefault(each, row)
    found.pop("", None)
    return found


def _group(question: Question) -> list[str]:
    return [question.group]


def _text(question: Question) -> list[str]:
    """The question with its pictures' names: one text may be asked about many pictures."""
    return ["\n".join([question.question.casefold(), *sorted(question.options), *question.images])]


def _images(question: Question) -> list[str]:
    return question.images
