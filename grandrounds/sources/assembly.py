"""From what the sources gave to splits that share nothing: repetitions and leaks dropped, validation carved.

Evaluation sets (test, unseen, benchmarks, and the validation of the embedded corpus) are never altered: they keep what
they repeat, and what training has in common with them goes from training. A question about pictures repeats another
when both the pictures and the text do, since one text is asked of many pictures; it leaks when one of its pictures is
in an evaluation set.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from grandrounds.domain.copies import keepers
from grandrounds.domain.duplicates import text_pairs, whole_text
from grandrounds.domain.leakage import Leak, leaks
from grandrounds.domain.pictures import image_pairs
from grandrounds.domain.splitting import carve
from grandrounds.params import Curate
from grandrounds.records import Question
from grandrounds.sources.gathering import Read

EVALUATION = ("val", "test", "unseen")


@dataclass
class Assembled:
    splits: dict[str, list[Question]]
    repeated: list[Question] = field(default_factory=list)
    leaks: list[Leak] = field(default_factory=list)
    repeats: dict[str, str] = field(default_factory=dict)  # id of a dropped question -> of the one that stays


def unique(splits: Mapping[str, Sequence[Question]]) -> tuple[dict[str, list[Question]], list[Question]]:
    """The splits without questions of train that repeat another word for word, and those.

    Evaluation sets stay as they are, and `pretrain` keeps its repetitions: how often it says a thing is what makes the
    embedded base know it.
    """
    first: dict[tuple, Question] = {}
    for each in splits["train"]:
        first.setdefault((each.question, tuple(each.options), each.label, *each.images), each)
    kept = {each.id for each in first.values()}
    repeated = [each for each in splits["train"] if each.id not in kept]
    return {name: list(rows) for name, rows in splits.items()} | {"train": list(first.values())}, repeated


def assemble(splits: Mapping[str, Sequence[Question]], read: Read, curate: Curate, seed: int) -> Assembled:
    """Splits without repetitions and leaks, and what was dropped for them.

    The embedded corpus is split where it is made: nothing of it repeats or leaks into another part of it. What files
    gave is compared with all. `curate.validation` is carved from what files gave to train, by whole groups.
    """
    benched = [question for each in read.benchmarks.values() for question in each.questions]
    everything = [question for name in (*EVALUATION, "train") for question in splits[name]] + benched
    pictures = list(dict.fromkeys(image for question in everything for image in question.images))
    near = image_pairs(((name, read.hashes[name]) for name in pictures), curate.duplicates.image)
    one_of = {name: pair.first for name, pair in keepers(pictures, near).items()}

    out = Assembled({name: list(rows) for name, rows in splits.items()})
    made, given = _by_origin(splits["train"], read)
    out.repeats = _repetitions(given, one_of, pictures, curate.duplicates.text)
    out.repeated = [question for question in given if question.id in out.repeats]
    given = [question for question in given if question.id not in out.repeats]
    out.splits["train"] = [question for question in splits["train"] if question.id not in out.repeats]
    kept_out = [question for name in EVALUATION for question in out.splits[name]]
    out.leaks = leaks(given, kept_out + benched, near, curate.duplicates.text)
    out.leaks += leaks(made, _by_origin(kept_out, read)[1] + benched, near, curate.duplicates.text)
    leaked = {leak.row.id for leak in out.leaks}
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
        shown = " ".join(f"Picture {number[one_of.get(image, image)]}." for image in question.images)
        return whole_text(replace(question, question=f"{question.question} {shown}"))

    pairs = text_pairs(((question.id, text(question)) for question in rows), threshold)
    return {row: pair.first for row, pair in keepers([question.id for question in rows], pairs).items()}
