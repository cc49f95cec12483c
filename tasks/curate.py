"""curate: sources become one corpus of questions, split by group.

`pretrain` feeds only the embedded base; `train` is what filter, distill, adapt and grpo may see; `val` selects; `test`
and `unseen` are only reported. Every row that is read is kept, or counted as duplicate, quarantined or leaked; a group,
question or picture that stands in two splits all the same stops the stage.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from grandrounds import files, runtime
from grandrounds.domain.leakage import Leak, shared
from grandrounds.engines import factory, specialties
from grandrounds.engines.journal import journal
from grandrounds.errors import UserError
from grandrounds.params import Params
from grandrounds.records import SPLITS, Quarantined, Question
from grandrounds.reporting.datacard import data_card
from grandrounds.sources import benchmarks
from grandrounds.sources.assembly import Assembled, assemble, unique
from grandrounds.sources.gathering import Read, account, gather
from grandrounds.tracking.progress import progress
from grandrounds.tracking.stage import stage_run, task_main

WATCHED = "data/sources"  # users put their data there, or link it, so that DVC sees when it changes
IMAGES, AUDIT = "data/curated/images", "data/curated/audit.json"
BENCHMARKS = str(benchmarks.FOLDER)
QUARANTINE, CARD = "data/curated/quarantine.parquet", "data/curated/card.md"

LEAKS = ("group", "question", "image")
SHOWN = 3  # removed questions of each kind that the report shows beside what they repeat


def main(item: str | None, params: Params) -> None:
    outputs = [*(f"data/curated/{split}.parquet" for split in SPLITS), IMAGES, BENCHMARKS, AUDIT, QUARANTINE, CARD]
    with stage_run("curate", item, params, inputs=[WATCHED], outputs=outputs) as run:
        with files.replacing(IMAGES) as folder:
            folder.mkdir()
            read = gather(params, folder)
            done = settle(read, params)
            benchmarks.write(read.benchmarks, folder)
            used = {image for questions in done.splits.values() for question in questions for image in question.images}
            used |= {image for leak in samples(done.leaks) for image in leak.row.images}
            for picture in folder.iterdir():
                if picture.name not in used:
                    picture.unlink()
        run.warn(*ask_specialties(done, read, params, run.identity))
        for split, questions in done.splits.items():
            files.write(f"data/curated/{split}.parquet", questions, Question)
        given = [*read.taken.values(), *(each.taken for each in read.benchmarks.values())]
        quarantine = [row for taken in given for row in taken.quarantine]
        files.write(QUARANTINE, quarantine, Quarantined)
        leaked = [leak.row for leak in done.leaks]
        metrics = account(read, params, done.splits, done.repeated, leaked)
        metrics |= {"leaks": 0, "splits": {split: describe(questions) for split, questions in done.splits.items()}}
        if read.benchmarks:
            metrics["benchmarks"] = {name: benchmarks.version(each) for name, each in read.benchmarks.items()}
            run.warn(*benchmarks.to_look_at(read.benchmarks, params.benchmarks))
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
    if read.taken or read.benchmarks:  # the embedded corpus alone is split where it is made, and is only checked
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


def ask_specialties(done: Assembled, read: Read, params: Params, identity: str) -> list[str]:
    """Ask the labeller about what is kept and no rule decided. Returns what could not be asked, and why."""
    asks = params.curate.labeller
    open_ = read.undecided()
    questions = [each for rows in done.splits.values() for each in rows if each.id in open_]
    if not (asks and questions):
        return []
    seed = runtime.derive_seed(params.seed, "curate", "labeller")
    engine = factory.make(asks.engine, asks.model or "", params, seed, "curate.labeller.engine")
    with journal("curate", None, identity) as kept, progress(len(questions), "specialties") as advance:
        named, problems = specialties.name(questions, engine, kept, asks.sampling, advance)
    read.decide(named, f"labeller: {asks.engine.type}")
    for split, rows in done.splits.items():
        done.splits[split] = [replace(each, specialty=named.get(each.id, each.specialty)) for each in rows]
    return problems


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
    return {**pair, "text": leak.row.question, "images": leak.row.images} if whole else pair


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
