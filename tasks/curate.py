"""curate: sources become one corpus of questions, split by group.

`pretrain` feeds only the embedded base; `train` is what filter, distill, adapt and grpo may see; `val` selects; `test`
and `unseen` are only reported. Nothing is dropped silently, and a group, question or picture that stands in two splits
stops the stage.
"""

from collections import Counter
from collections.abc import Sequence

from grandrounds import files
from grandrounds.domain.leakage import shared
from grandrounds.errors import UserError
from grandrounds.params import EmbeddedSource, Params
from grandrounds.records import SPLITS, Question
from grandrounds.sources import embedded
from grandrounds.tracking.stage import stage_run, task_main

IMAGES, AUDIT = "data/curated/images", "data/curated/audit.json"


def main(item: str | None, params: Params) -> None:
    outputs = [*(f"data/curated/{split}.parquet" for split in SPLITS), IMAGES, AUDIT]
    with stage_run("curate", item, params, inputs=[], outputs=outputs) as run:
        splits, images = embedded.build(params.curate.embedded or EmbeddedSource(), params.seed)
        read = sum(map(len, splits.values()))
        splits, dropped = unique(splits)
        leaks = shared(splits)
        if leaks:
            where, names = next(iter(leaks.items()))
            raise UserError(f"curate: {where} '{names[0]}' and {len(names) - 1} more stand in both; mend the source")

        for split, questions in splits.items():
            files.write(f"data/curated/{split}.parquet", questions, Question)
        with files.replacing(IMAGES) as folder:
            folder.mkdir()
            for name in sorted({q.image for questions in splits.values() for q in questions} - {""}):
                (folder / name).write_bytes(images[name])
        kept = sum(map(len, splits.values()))
        report = {"read": read, "kept": kept, "dropped": dropped, "leaks": 0}
        files.write_json(AUDIT, {**report, "leakage_checked": ["group", "question", "image"]})
        run.finish({**report, "splits": {split: describe(questions) for split, questions in splits.items()}})


def unique(splits: dict[str, list[Question]]) -> tuple[dict[str, list[Question]], dict[str, int]]:
    """The splits without questions that repeat one of their own split, and how many those were.

    `pretrain` keeps its repetitions: how often it says a thing is what makes the embedded base know it.
    """
    kept: dict[str, list[Question]] = {}
    repeated = 0
    for split, questions in splits.items():
        seen: dict[tuple, Question] = {}
        for each in questions:
            asked = (each.question, tuple(each.options), each.label, each.image)
            seen.setdefault((each.id,) if split == "pretrain" else asked, each)
        kept[split] = list(seen.values())
        repeated += len(questions) - len(seen)
    return kept, {"duplicate": repeated}


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
