"""Splits that share nothing: no group, no question, no picture in two of them."""

from collections.abc import Mapping, Sequence
from itertools import combinations

from grandrounds.records import Question

# pretrain is what the embedded base is built from; train asks about the same groups again, and is never scored
TOGETHER = frozenset({"pretrain", "train"})


def shared(splits: Mapping[str, Sequence[Question]]) -> dict[str, list[str]]:
    """What two splits have in common, as {"train & test: group": [names]}; empty when nothing leaks."""
    found: dict[str, list[str]] = {}
    for first, second in combinations(splits, 2):
        if {first, second} == TOGETHER:
            continue
        for what, key in (("group", _group), ("question", _text), ("image", _image)):
            both = {key(q) for q in splits[first]} & {key(q) for q in splits[second]} - {""}
            if both:
                found[f"{first} & {second}: {what}"] = sorted(both)
    return found


def _group(question: Question) -> str:
    return question.group


def _text(question: Question) -> str:
    """The question with its picture's name: one text may be asked about many pictures."""
    return "\n".join([question.question.casefold(), *sorted(question.options), question.image])


def _image(question: Question) -> str:
    return question.image
