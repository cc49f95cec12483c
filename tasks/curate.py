"""curate: sources become one corpus of questions, split by group.

`pretrain` feeds only the embedded base; `train` is what filter, distill, adapt and grpo may see; `val` selects; `test`
and `unseen` are only reported. Every row that is read is kept, or counted as duplicate, quarantined or leaked; a group,
question or picture that stands in two splits all the same stops the stage.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from grandrounds import files
from grandrounds.domain.leakage import Leak, shared
from grandrounds.errors import UserError
from grandrounds.params import Params
from grandrounds.records import SPLITS, Quarantined, Question
from grandrounds.reporting.datacard import data_card
from grandrounds.sources.assembly import Assembled, assemble
from grandrounds.sources.gathering import Read, account, gather
from grandrounds.tracking.stage import stage_run, task_main

WATCHED = "data/sources"  # users put their data there, or link it, so that DVC sees when it changes
IMAGES, AUDIT = "data/curated/images", "data/curated/audit.json"
QUARANTINE, CARD = "data/curated/quarantine.parquet", "data/curated/card.md"

LEAKS = ("group", "question", "image")
SHOWN = 3  # removed questions of each kind that the report shows beside what they repeat


def main(item: str | None, params: Params) -> None:
    outputs = [*(f"data/curated/{split}.parquet" for split in SPLITS), IMAGES, AUDIT, QUARANTINE, CARD]
    with stage_run("curate", item, params, inputs=[WATCHED], outputs=outputs) as run:
        with files.replacing(IMAGES) as folder:
            folder.mkdir()
            read = gather(params, folder)
            done = settle(read, params)
            used = {question.image for questions in done.splits.values() for question in questions}
            used |= {leak.row.image for leak in samples(done.leaks)}
            for picture in folder.iterdir():
                if picture.name not in used:
                    picture.unlink()
        for split, questions in done.splits.items():
            files.write(f"data/curated/{split}.parquet", questions, Question)
        quarantine = [row for taken in read.taken.values() for row in taken.quarantine]
        files.write(QUARANTINE, quarantine, Quarantined)
        leaked = [leak.row for leak in done.leaks]
        metrics = account(read, params, done.splits, done.repeated, leaked)
        metrics |= {"leaks": 0, "splits": {split: describe(questions) for split, questions in done.splits.items()}}
        audit = {key: metrics[key] for key in ("read", "kept", "dropped", "leaks")}
        shown = samples(done.leaks)
        removed = [pair_of(leak, whole=leak in shown) for leak in done.leaks]
        checked = {"leakage_checked": list(LEAKS), "removed": removed, "repeats": done.repeats}
        files.write_json(AUDIT, {**audit, **checked})
        with files.replacing(CARD) as temporary:
            temporary.write_text(data_card(metrics, params.curate.leakage), encoding="utf-8")
        run.finish(metrics)


def settle(read: Read, params: Params) -> Assembled:
    """The splits as they are written, and what was dropped on the way. Raises UserError for a leak that must not be."""
    splits, repeated = unique(read.splits)
    done = Assembled(splits)
    if read.taken:  # the embedded corpus alone is split where it is made, and is only checked
        done = assemble(splits, read, params.curate, params.seed)
    done.repeated += repeated
    if done.leaks and params.curate.leakage == "fail":
        first = done.leaks[0]
        raise UserError(
            f"curate: {len(done.leaks)} training questions are in an evaluation set too; first '{first.row.id}', "
            f"by its {first.what}, which '{first.against.id}' of {first.against.split} has; take them out of the "
            "source, or set curate.leakage: remove"
        )
    common = shared(done.splits)
    if common:
        where, names = next(iter(common.items()))
        raise UserError(f"curate: {where} '{names[0]}' and {len(names) - 1} more stand in both; mend the source")
    return done


def unique(splits: dict[str, list[Question]]) -> tuple[dict[str, list[Question]], list[Question]]:
    """The splits without questions that repeat one of their own split word for word, and those.

    `pretrain` keeps its repetitions: how often it says a thing is what makes the embedded base know it.
    """
    kept: dict[str, list[Question]] = {}
    repeated: list[Question] = []
    for split, questions in splits.items():
        seen: set[tuple] = set()
        kept[split] = []
        for each in questions:
            asked = (each.id,) if split == "pretrain" else (each.question, tuple(each.options), each.label, each.image)
            (repeated if asked in seen else kept[split]).append(each)
            seen.add(asked)
    return kept, repeated


def samples(leaks: Sequence[Leak]) -> list[Leak]:
    """The first of each kind of leak, whose text and picture are kept for the report."""
    return [leak for what in LEAKS for leak in [each for each in leaks if each.what == what][:SHOWN]]


def pair_of(leak: Leak, whole: bool = False) -> dict[str, Any]:
    """A removed question and what it has in common with which question of an evaluation set; `whole`: its text too."""
    pair = {
        "removed": leak.row.id,
        "source": leak.row.source,
        "by": leak.what,
        "of": leak.against.id,
        "split": leak.against.split,
        "similarity": round(leak.similarity, 4),
    }
    return {**pair, "text": leak.row.question, "image": leak.row.image} if whole else pair


def describe(questions: Sequence[Question]) -> dict:
    """Counts of one split."""
    return {
        "n": len(questions),
        "groups": len({each.group for each in questions}),
        **{
            f"by_{name}": dict(sorted(Counter(getattr(each, name) for each in questions).items()))
            for name in ("specialty", "modality", "kind", "topic")
        },
    }


if __name__ == "__main__":
    task_main("curate", main, items=False)
