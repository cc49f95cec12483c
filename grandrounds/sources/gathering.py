"""Every source of params.yaml read: questions by split, pictures in one folder, rows that are unusable."""

import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grandrounds.domain.labelling import UNDECIDED
from grandrounds.domain.pictures import ImageHash, image_hash
from grandrounds.params import EmbeddedSource, Params
from grandrounds.records import SPLITS, Question
from grandrounds.sources import benchmarks, embedded
from grandrounds.sources.benchmarks import Benched
from grandrounds.sources.catalogue import about
from grandrounds.sources.images import Gallery
from grandrounds.sources.intake import Taken, kind, labeller, take

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass
class Read:
    """What all sources gave."""

    splits: dict[str, list[Question]] = field(default_factory=lambda: {split: [] for split in SPLITS})
    taken: dict[str, Taken] = field(default_factory=dict)  # by the name of a source of files
    hashes: dict[str, ImageHash] = field(default_factory=dict)  # by picture; none when nothing has to be compared
    benchmarks: dict[str, Benched] = field(default_factory=dict)
    embedded: int = 0  # questions of the embedded corpus

    def undecided(self) -> set[str]:
        """Ids of questions whose specialty neither their source nor a rule decided."""
        return {name for taken in self.taken.values() for name in taken.undecided}

    def decide(self, named: Iterable[str], labeller: str) -> None:
        """Count questions that no rule decided for the labeller that did."""
        source_of = {name: taken for taken in self.taken.values() for name in taken.undecided}
        for name in named:
            source_of[name].labelled[UNDECIDED] -= 1
            source_of[name].labelled[labeller] += 1


def gather(params: Params, folder: Path) -> Read:
    """Read every source; pictures go to `folder`. Raises UserError when too much of a source is unusable."""
    curate, read = params.curate, Read()
    gallery = Gallery(folder, curate.max_pixels, curate.image_size_cap)

    def keep(file: str, picture: "Image") -> None:
        if file not in read.hashes:
            read.hashes[file] = image_hash(picture)

    for name, spec in curate.sources.items():
        if isinstance(spec, EmbeddedSource):
            _embed(read, spec, params, folder)
            continue
        taken = take(name, spec, gallery, labeller(curate.specialties), keep)
        taken.refuse_above(name, curate.quarantine_share)
        read.taken[name] = taken
        read.splits[spec.role] += taken.questions
    read.benchmarks = benchmarks.read(params.benchmarks, gallery, labeller(curate.specialties), keep)
    return read


def _embed(read: Read, spec: EmbeddedSource, params: Params, folder: Path) -> None:
    from PIL import Image

    splits, images = embedded.build(spec, params.seed)
    read.embedded = sum(map(len, splits.values()))
    for split, questions in splits.items():
        read.splits[split] += questions
    for name, png in images.items():
        (folder / name).write_bytes(png)
        if len(params.curate.sources) > 1 or params.benchmarks:
            read.hashes[name] = image_hash(Image.open(io.BytesIO(png)))


def shares(labelled: Counter[str]) -> dict[str, float]:
    """The share of a source's questions whose specialty each rule decided; they add up to 1."""
    return {by: round(count / labelled.total(), 4) for by, count in labelled.most_common() if count}


def account(
    read: Read,
    params: Params,
    splits: Mapping[str, Sequence[Question]],
    repeated: Sequence[Question],
    leaked: Sequence[Question],
) -> dict[str, Any]:
    """What became of every row, by source: read = kept + duplicate + quarantined + leaked, rows = left out + read."""

    def by_source(rows: Sequence[Question]) -> Counter[str]:
        made = next((name for name, spec in params.curate.sources.items() if isinstance(spec, EmbeddedSource)), "")
        return Counter(question.source if question.source in read.taken else made for question in rows)

    kept = by_source([question for questions in splits.values() for question in questions])
    again, leaks = by_source(repeated), by_source(leaked)
    kept += Counter({name: len(each.questions) for name, each in read.benchmarks.items()})
    sources = about(params)
    given = read.taken | {name: each.taken for name, each in read.benchmarks.items()}
    for name, each in sources.items():
        taken = given.get(name, Taken())
        count = taken.read if name in given else read.embedded
        each |= {
            "rows": count + taken.left_out.total(),
            "left_out": taken.left_out.total(),
            "why_left_out": dict(sorted(taken.left_out.items())),
            "read": count,
            "kept": kept[name],
            "duplicate": taken.repeated + again[name],
            "quarantined": len(taken.quarantine),
            "leaked": leaks[name],
            "labelled": shares(taken.labelled),
        }
    reasons = Counter(kind(row) for taken in given.values() for row in taken.quarantine)
    total = {key: sum(each[key] for each in sources.values()) for key in ("read", "kept")}
    dropped = {key: sum(each[key] for each in sources.values()) for key in ("duplicate", "quarantined", "leaked")}
    return {**total, "dropped": dropped, "sources": sources, "quarantine": dict(sorted(reasons.items()))}
