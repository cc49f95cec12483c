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
from grandrounds.domain import labelling
from grandrounds.domain.leakage import Leak, shared
from grandrounds.engines import factory
from grandrounds.engines.journal import journal
from grandrounds.engines.protocol import Request
from grandrounds.errors import UserError
from grandrounds.params import Params
from grandrounds.records import SPLITS, Quarantined, Question
from grandrounds.reporting.datacard import data_card
from grandrounds.sources.assembly import Assembled, assemble, unique
from grandrounds.sources.gathering import Read, account, gather
from grandrounds.tracking.progress import progress
from grandrounds.tracking.stage import stage_run, task_main

WATCHED = "data/sources"  # users put their data there, or link it, so that DVC sees when it changes
IMAGES, AUDIT = "data/curated/images", "data/curated/audit.json"
QUARANTINE, CARD = "data/curated/quarantine.parquet", "data/curated/card.md"


def main(item: str | None, params: Params) -> None:
    outputs = [*(f"data/curated/{split}.parquet" for split in SPLITS), IMAGES, AUDIT, QUARANTINE, CARD]
    with stage_run("curate", item, params, inputs=[WATCHED], outputs=outputs) as run:
        with files.replacing(IMAGES) as folder:
            folder.mkdir()
            read = gather(params, folder)
            done = settle(read, params)
            used = {image for questions in done.splits.values() for question in questions for image in question.images}
            for picture in folder.iterdir():
                if picture.name not in used:
                    picture.unlink()
        if params.curate.labeller:
            run.warn(*ask_specialties(done, read, params, run.identity))
        for split, questions in done.splits.items():
            files.write(f"data/curated/{split}.parquet", questions, Question)
        quarantine = [row for taken in read.taken.values() for row in taken.quarantine]
        files.write(QUARANTINE, quarantine, Quarantined)
        leaked = [leak.row for leak in done.leaks]
        metrics = account(read, params, done.splits, done.repeated, leaked)
        metrics |= {"leaks": 0, "splits": {split: describe(questions) for split, questions in done.splits.items()}}
        audit = {key: metrics[key] for key in ("read", "kept", "dropped", "leaks")}
        removed = [pair_of(leak) for leak in done.leaks]
        checked = {"leakage_checked": ["group", "question", "image"], "removed": removed, "repeats": done.repeats}
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


def ask_specialties(done: Assembled, read: Read, params: Params, identity: str) -> list[str]:
    """Ask the labeller for the specialty of what is kept and no rule decided; what it cannot say stays `other`.

    The shares in `read` then name it. Returns the problems of questions that could not be asked.
    """
    asks = params.curate.labeller
    assert asks is not None
    source_of = {name: source for source, taken in read.taken.items() for name in taken.undecided}
    requests = [
        Request(question.id, question, labelling.ASKED)
        for questions in done.splits.values()
        for question in questions
        if question.id in source_of
    ]
    if not requests:
        return []
    seed = runtime.derive_seed(params.seed, "curate", "labeller")
    engine = factory.make(asks.engine, asks.model or "", params, seed, "curate.labeller.engine")
    named: dict[str, str] = {}
    problems = []
    with journal("curate", None, identity) as kept, progress(len(requests), "specialties") as advance:
        for completion in kept.generate(engine, requests, asks.sampling):
            if completion.problem:
                problems.append(f"question {completion.id}: {completion.problem}")
            if specialty := labelling.read(completion.text):
                named[completion.id] = specialty
                read.taken[source_of[completion.id]].decided_by(f"labeller: {asks.engine.type}")
            advance()
    for split, questions in done.splits.items():
        done.splits[split] = [replace(each, specialty=named.get(each.id, each.specialty)) for each in questions]
    return problems


def pair_of(leak: Leak) -> dict[str, Any]:
    """A removed question beside what it has in common with which question of an evaluation set."""
    return {
        "removed": leak.row.id,
        "source": leak.row.source,
        "by": leak.what,
        "of": leak.against.id,
        "split": leak.against.split,
        "similarity": round(leak.similarity, 4),
    }


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
