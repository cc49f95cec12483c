"""From what the sources gave to splits that share nothing: repetitions dropped, leaks removed, validation carved.

Evaluation sets (test, unseen, and the validation of the embedded corpus) are never altered for the sake of training:
what training has in common with them goes from training. A question about a picture repeats another when both the
picture and the text do, since one text is asked of many pictures; it leaks when the picture alone is in an evaluation
set.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256

from grandrounds.domain.copies import Pair, keepers
from grandrounds.domain.duplicates import text_pairs, whole_text
from grandrounds.domain.pictures import image_pairs
from grandrounds.params import Curate
from grandrounds.records import Question
from grandrounds.sources.gathering import Read

EVALUATION = ("val", "test", "unseen")


@dataclass(frozen=True)
class Leak:
    """A training question that an evaluation set also has. `what`: its group, picture or text."""

    question: Question
    against: Question
    what: str
    similarity: float = 1.0


@dataclass
class Assembled:
    splits: dict[str, list[Question]]
    repeated: list[Question] = field(default_factory=list)
    leaks: list[Leak] = field(default_factory=list)
    repeats: dict[str, str] = field(default_factory=dict)  # id of a dropped question -> of the one that stays


def assemble(splits: Mapping[str, Sequence[Question]], read: Read, curate: Curate, seed: int) -> Assembled:
    """Splits without repetitions and leaks, and what was dropped for them.

    The embedded corpus is split where it is made: nothing of it repeats or leaks into another part of it. What files
    gave is compared with all. `curate.validation` is carved from what files gave to train, by whole groups.
    """
    everything = [question for name in (*EVALUATION, "train") for question in splits[name]]
    pictures = list(dict.fromkeys(question.image for question in everything if question.image))
    near = image_pairs(((name, read.hashes[name]) for name in pictures), curate.duplicates.image)
    one_of = {name: pair.first for name, pair in keepers(pictures, near).items()}

    out = Assembled({name: list(rows) for name, rows in splits.items()})
    for name in (*EVALUATION, "train"):
        rows = [question for question in out.splits[name] if question.source in read.taken]
        gone = _repetitions(rows, one_of, pictures, curate.duplicates.text)
        out.repeated += [question for question in rows if question.id in gone]
        out.splits[name] = [question for question in out.splits[name] if question.id not in gone]
        out.repeats |= gone
    made, given = _by_origin(out.splits["train"], read)
    kept_out = [question for name in EVALUATION for question in out.splits[name]]
    out.leaks = leaks(given, kept_out, near, curate.duplicates.text)
    out.leaks += leaks(made, _by_origin(kept_out, read)[1], near, curate.duplicates.text)
    leaked = {leak.question.id for leak in out.leaks}
    carved = carve([each for each in given if each.id not in leaked], near, curate.validation, seed)
    train = [question for question in out.splits["train"] if question.id not in leaked]
    out.splits["train"] = [question for question in train if question.group not in carved]
    out.splits["val"] += [replace(question, split="val") for question in train if question.group in carved]
    return out


def _by_origin(rows: Iterable[Question], read: Read) -> tuple[list[Question], list[Question]]:
    """(made here, given by files)."""
    made: list[Question] = []
    given: list[Question] = []
    for question in rows:
        (given if question.source in read.taken else made).append(question)
    return made, given


def _repetitions(
    rows: Sequence[Question], one_of: Mapping[str, str], pictures: Sequence[str], threshold: float
) -> dict[str, str]:
    """Id of each question that repeats an earlier one -> id of that one."""
    number = {name: place for place, name in enumerate(pictures)}

    def text(question: Question) -> str:
        if not question.image:
            return whole_text(question)
        # a number is a fact, and texts whose facts differ are never duplicates: so only one picture's questions meet
        shown = number[one_of.get(question.image, question.image)]
        return whole_text(replace(question, question=f"{question.question} Picture {shown}."))

    pairs = text_pairs(((question.id, text(question)) for question in rows), threshold)
    return {row: pair.first for row, pair in keepers([question.id for question in rows], pairs).items()}


def leaks(
    train: Sequence[Question], kept_out: Sequence[Question], near: Iterable[Pair], threshold: float
) -> list[Leak]:
    """Every question of train that an evaluation set has too, each once: by its group, else picture, else text.

    Of questions about pictures the picture decides.
    """
    groups, shown = _first(kept_out, "group"), _first(kept_out, "image")
    alike: dict[str, tuple[str, float]] = {name: (name, 1.0) for name in shown}
    for pair in near:
        for one, other in ((pair.first, pair.second), (pair.second, pair.first)):
            if other in shown and one not in alike:
                alike[one] = other, pair.similarity
    by_id = {question.id: question for question in kept_out}
    texts = ((question.id, whole_text(question)) for question in (*kept_out, *train) if not question.image)
    asked = {pair.second: pair for pair in text_pairs(texts, threshold) if pair.first in by_id}
    found = []
    for question in train:
        if question.group in groups:
            found.append(Leak(question, groups[question.group], "group"))
        elif question.image in alike:
            other, similarity = alike[question.image]
            found.append(Leak(question, shown[other], "picture", similarity))
        elif question.id in asked:
            pair = asked[question.id]
            found.append(Leak(question, by_id[pair.first], "question", pair.similarity))
    return found


def _first(rows: Iterable[Question], name: str) -> dict[str, Question]:
    out: dict[str, Question] = {}
    for question in rows:
        if getattr(question, name):
            out.setdefault(getattr(question, name), question)
    return out


def carve(train: Sequence[Question], near: Iterable[Pair], size: float, seed: int) -> set[str]:
    """The groups of train that become validation. Groups whose pictures are near-duplicates go together."""
    wanted = size if size >= 1 else size * len(train)
    unit: dict[str, str] = {question.group: question.group for question in train}

    def root(group: str) -> str:
        while unit[group] != group:
            unit[group] = unit[unit[group]]
            group = unit[group]
        return group

    groups_of: dict[str, set[str]] = {}
    for question in train:
        groups_of.setdefault(question.image, set()).add(question.group)
    groups_of.pop("", None)
    together = [*groups_of.values(), *(groups_of.get(p.first, set()) | groups_of.get(p.second, set()) for p in near)]
    for groups in together:
        for other in groups:
            first, second = sorted((root(min(groups)), root(other)))
            unit[second] = first
    members: dict[str, int] = {}
    for question in train:
        members[root(question.group)] = members.get(root(question.group), 0) + 1
    chosen: set[str] = set()
    count = 0
    for each in sorted(members, key=lambda group: sha256(f"{seed}/{group}".encode()).digest()):
        if count >= wanted:
            break
        chosen.add(each)
        count += members[each]
    return {group for group in unit if root(group) in chosen}
