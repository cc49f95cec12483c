"""Benchmarks as curate reads them: whole sets of their own, selected, pinned by number and content, never altered.

They lie apart from the splits, pictures too, so that adding one changes nothing that a model is trained on, unless
training had a question or picture of it.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grandrounds import files
from grandrounds.errors import UserError
from grandrounds.params import Benchmark
from grandrounds.records import Question
from grandrounds.sources.images import Gallery
from grandrounds.sources.intake import Labeller, Taken, take

if TYPE_CHECKING:
    from PIL.Image import Image

FOLDER = Path("data/curated/benchmarks")
FROM_IMAGES = "../benchmarks/images"  # a question's picture is named from data/curated/images on


@dataclass(frozen=True)
class Benched:
    """One benchmark: the questions that are meant, and what the source had."""

    questions: list[Question]
    taken: Taken
    sha256: str


def read(
    benchmarks: Mapping[str, Benchmark],
    gallery: Gallery,
    label: Labeller,
    keep: Callable[[str, "Image"], None],
) -> dict[str, Benched]:
    """Every benchmark by name. Raises UserError for one that is empty, or not the version that params.yaml pins."""
    found = {}
    for name, spec in benchmarks.items():
        taken = take(name, spec.source, gallery, label, keep)
        meant = [replace(each, split=name) for each in taken.questions if _meant(each, spec)]
        taken.left_out["not selected"] += len(taken.questions) - len(meant)
        taken.questions = meant
        found[name] = Benched(meant, taken, digest(meant))
        _refuse_another_version(name, spec, found[name])
    return found


def digest(questions: list[Question]) -> str:
    """SHA-256 over what is asked and what is right, in order; a picture counts by its name, which is its content's."""
    total = sha256()
    for each in questions:
        row = [each.question, each.options, each.answer, each.label, each.synonyms, *(each.images or [""])]
        total.update(json.dumps(row).encode() + b"\n")
    return total.hexdigest()


def _meant(question: Question, spec: Benchmark) -> bool:
    wanted = ((spec.select.topic, question.topic), (spec.select.kind, question.kind))
    return all(not names or value in names for names, value in wanted)


def _refuse_another_version(name: str, spec: Benchmark, found: Benched) -> None:
    where, count = f"benchmarks.{name}", len(found.questions)
    if not count:
        raise UserError(f"{where}: no question is left of {found.taken.read}; check `select` and the source's files")
    if spec.rows is not None and count != spec.rows:
        lost = f" ({len(found.taken.quarantine)} rows unusable)"
        raise UserError(
            f"{where}.rows: {spec.rows} questions are pinned, but the source gave {count}{lost}: it is another "
            "version, or a part is missing; fetch the pinned one, or pin this one under another name"
        )
    if spec.sha256 is not None and found.sha256 != spec.sha256:
        raise UserError(
            f"{where}.sha256: {spec.sha256} is pinned, but the source's content has {found.sha256}: it is another "
            "version; fetch the pinned one, or pin this one under another name"
        )


def write(benched: Mapping[str, Benched], pictures: Path) -> None:
    """data/curated/benchmarks: a table a benchmark, their pictures, and index.json with the version of each."""
    with files.replacing(FOLDER) as folder:
        (folder / "images").mkdir(parents=True)
        for name, each in benched.items():
            for image in {image for question in each.questions for image in question.images}:
                shutil.copyfile(pictures / image, folder / "images" / image)
            files.write(folder / f"{name}.parquet", [_apart(question) for question in each.questions], Question)
        files.write_json(folder / "index.json", {name: version(each) for name, each in benched.items()})


def _apart(question: Question) -> Question:
    first, *more = [f"{FROM_IMAGES}/{image}" for image in question.images] or [""]
    return replace(question, image=first, more_images=more)


def to_look_at(read: Mapping[str, Benched], specs: Mapping[str, Benchmark]) -> list[str]:
    """What a person should pin, or look at: a benchmark that may be another one tomorrow, or that lacks rows."""
    told = []
    for name, each in read.items():
        if specs[name].sha256 is None:
            pin = f"rows: {len(each.questions)}, sha256: {each.sha256}"
            told.append(f"benchmarks.{name}: to pin its content, add {pin}")
        if each.taken.quarantine:
            told.append(f"benchmarks.{name}: {len(each.taken.quarantine)} rows are unusable, and are not asked")
    return told


def version(benched: Benched) -> dict[str, Any]:
    questions = benched.questions
    return {"rows": len(questions), "sha256": benched.sha256, "groups": len({each.group for each in questions})}
