"""Published figures beside ours, set by set and arm by arm, with what has to match for the two to be comparable.

A row is comparable when the set, the prompt and the judge are the paper's; else it is greyed, and says what differs. A
published figure has no interval, so a difference inside ours shows nothing.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from grandrounds.reporting.blocks import Block, Row, Table, Text
from grandrounds.reporting.collect import Run
from grandrounds.reporting.numbers import MISSING, count, decimal, estimate, number, points, words
from grandrounds.reporting.tables import rows_of

VERIFIER = "answer match"
HUMAN = "human"
# published column -> (the declaration that is the paper's own set, others that carry its name)
MEDVLTHINKER = {
    "pmc_vqa": ("medvlthinker_pmc_vqa", ("pmc_vqa_test_clean", "pmc_vqa_test")),
    "mmmu_med": ("medvlthinker_mmmu", ("mmmu",)),
    "medxpertqa_mm": ("medvlthinker_medxpertqa", ("medxpertqa_mm",)),
    "pathvqa": ("medvlthinker_path_vqa", ("path_vqa_closed", "path_vqa")),
    "slake": ("medvlthinker_slake", ("slake_closed", "slake")),
    "vqa_rad": ("medvlthinker_vqa_rad", ("vqa_rad_closed", "vqa_rad")),
}
MMEDEXPERT = {"medxpertqa_mm": ("medxpertqa_mm", ("medvlthinker_medxpertqa",)), "omnimedvqa": ("omnimedvqa", ())}
RARL = {
    "vqa_rad": ("vqa_rad", ("vqa_rad_closed", "medvlthinker_vqa_rad")),
    "slake": ("slake", ("slake_closed", "medvlthinker_slake")),
    "vqa_med_2019": ("vqa_med_2019", ()),
    "pathvqa": ("path_vqa", ("path_vqa_closed", "medvlthinker_path_vqa")),
}
# how a paper calls a method -> our arm
ARMS = {
    "base": "base", "sft": "sft", "sft_text": "sft", "sft_image_text": "sft", "rlvr_text": "medvlthinker",
    "rlvr_image_text": "medvlthinker", "mmedexpert_r1": "mmedexpert", "rl_lora": "rarl",
    "rarl_prompt_diversity": "rarl",
}  # fmt: skip
SUFFIX = {"reasoning": "", "none": "_no_reasoning", "unstated": ""}


@dataclass(frozen=True)
class Published:
    """One printed figure, in percent. `sets`: the paper's own set, and others of that name."""

    paper: str
    label: str
    method: str
    sets: tuple[str, tuple[str, ...]]
    prompt: str
    judge: str
    figure: float


def published() -> Iterator[Published]:
    """Every printed accuracy or final score whose method is one of our arms."""
    for row in rows_of("medvlthinker"):
        for column, sets in MEDVLTHINKER.items():
            if row["method"] in ARMS and row[column]:
                label = f"{row['model']} {words(row['method'])}"
                yield Published("MedVLThinker", label, row["method"], sets, "reasoning", VERIFIER, float(row[column]))
    for row in rows_of("mmedexpert_r1"):
        for column, sets in MMEDEXPERT.items():
            yield Published(
                "MMedExpert-R1", row["model"], row["method"], sets, "reasoning", VERIFIER, float(row[column])
            )
    for row in rows_of("rarl"):
        if row["dataset"] in RARL and row["method"] in ARMS and row["final"]:
            label = f"2B {words(row['method'])}"
            sets = RARL[row["dataset"]]
            yield Published("RARL", label, row["method"], sets, row["prompt"], row["judge"], float(row["final"]))


def blocks(run: Run) -> list[Block]:
    """The table of all published figures on sets that this run scored."""
    names = scored(run)
    rows = [row for each in published() for row in [_row(run, each, names)] if row is not None]
    if not rows:
        told = "None of the papers' sets was scored in this run (docs/reading-the-report.md): nothing to compare."
        return [Text(told, tone="missing")]
    columns = ["paper", "printed as", "set", "printed, %", "our arm", "ours, %", "points", "same set", "same prompt"]
    return [
        Table(
            "Printed figures beside ours",
            [*columns, "same judge"],
            rows,
            align="lllrlrrlll",
            caption="Points: ours minus theirs. Only rows in full colour compare like with like, and even there the "
            "model, its size and the harness may differ; papers print no intervals. Grey: what says “no” differs.",
        )
    ]


def scored(run: Run) -> dict[str, str]:
    """The name of a published set -> our split that is it: by its declaration in params.yaml, else by its own name."""
    declared: Mapping[str, Any] = run.params.model_dump(mode="json").get("benchmarks") or {}
    by_name = {split: split for split in run.splits}
    return by_name | {
        each["published"]: split for split, each in declared.items() if each.get("published") and split in run.splits
    }


def _row(run: Run, each: Published, names: Mapping[str, str]) -> Row | None:
    own, others = each.sets
    found = next((name for name in (own, *others) if name in names), None)
    arm = ARMS[each.method]
    scores = run.scores(arm, names[found] + SUFFIX[each.prompt]) if found else {}
    if found is None or not scores:
        return None
    judge = _judge(run, each.judge)
    if judge == VERIFIER:
        ours, text = number(scores.get("accuracy")), estimate(scores)
    else:
        ours = number(((scores.get("judges") or {}).get(judge) or {}).get("prediction"))
        text = MISSING if ours is None else decimal(100 * ours, 1)
    same = (found == own, each.prompt != "unstated", judge != VERIFIER or each.judge == VERIFIER)
    said = (
        f"yes ({count(scores.get('n'))})" if same[0] else f"no: {found}",
        words(each.prompt) if same[1] else "no: not stated",
        each.judge if same[2] else f"no: {each.judge}, ours {VERIFIER}",
    )
    difference = MISSING if ours is None else points(ours - each.figure / 100)
    cells = [each.paper, each.label, found, decimal(each.figure), run.title(arm), text, difference, *said]
    return Row(cells, "" if all(same) else "grey")


def _judge(run: Run, wanted: str) -> str:
    """The name of our judge that is the paper's model; the verifier where we have none of that kind."""
    if wanted in (VERIFIER, HUMAN):
        return VERIFIER
    of = (name for name, judge in run.params.judge.judges.items() if getattr(judge, "model", "") == wanted)
    return next(of, VERIFIER)
