"""What the papers printed, and what this run measured in the same form.

Only where a paper's own set was scored do the two stand in one table (:mod:`papers`).
"""

from collections.abc import Mapping
from typing import Any

from grandrounds.records import MODALITIES
from grandrounds.reporting.blocks import Block, Link, Row, Section, Table, Text, missing
from grandrounds.reporting.collect import Run
from grandrounds.reporting.numbers import MISSING, count, estimate, number, percent, words
from grandrounds.reporting.sections import papers
from grandrounds.reporting.sections.summary import judges
from grandrounds.reporting.tables import rows_of

_SETS = {
    "pmc_vqa": "PMC-VQA", "mmmu_med": "MMMU-Med", "medxpertqa_mm": "MedXpertQA-MM", "pathvqa": "PathVQA",
    "slake": "SLAKE", "vqa_rad": "VQA-RAD", "average": "mean", "omnimedvqa": "OmniMedVQA", 
    "vqa_med_2019": "VQA-Med 2019", "ours": "own set",
}  # fmt: skip


def section(run: Run) -> Section:
    blocks: list[Block] = [
        Text(
            "The published figures below come from other data, other models a thousand times larger, and other "
            "judges. They are printed so that the shape of a finding can be held beside ours, and compare with "
            "nothing that this run measured."
            if run.params.base.model.type == "embedded"
            else (
                "The published figures below come from the papers' own data, models and judges; ours differ in any "
                "of these."
            ),
            tone="warning",
        ),
        *papers.blocks(run),
        _medvlthinker(),
        *_ours_modalities(run),
        _mmedexpert(),
        *_ours_arms(run),
        _rarl(),
        *_ours_prompts(run),
        _cv_bench(),
        missing("CV-Bench (RARL's check before medicine)"),
        Link("MedVLThinker: arXiv 2508.02669", "https://arxiv.org/abs/2508.02669"),
        Link("MMedExpert-R1: arXiv 2601.10949", "https://arxiv.org/abs/2601.10949"),
        Link("RARL: arXiv 2506.06600", "https://arxiv.org/abs/2506.06600"),
    ]
    return Section("published", "Beside the published results", blocks)


def _cell(text: str | None) -> str:
    return text if text else MISSING


def _method(name: str) -> str:
    """`rlvr_image_text` -> RLVR image text."""
    known = {"sft": "SFT", "rlvr": "RLVR", "rl": "RL", "rarl": "RARL", "lora": "LoRA"}
    return " ".join(known.get(word, word) for word in name.split("_"))


def _medvlthinker() -> Table:
    sets = ["pmc_vqa", "mmmu_med", "medxpertqa_mm", "pathvqa", "slake", "vqa_rad", "average"]
    rows = [
        Row([each["model"], _method(each["method"]), *(_cell(each[s]) for s in sets)], "published")
        for each in rows_of("medvlthinker")
    ]
    return Table(
        "MedVLThinker, accuracy, %",
        ["model", "method", *(_SETS[s] for s in sets)],
        rows,
        align="ll",
        caption="Mean: unweighted, over the six sets. No intervals were published.",
        published=True,
    )


def _ours_modalities(run: Run) -> list[Block]:
    """Methods x sets with an unweighted mean, as MedVLThinker prints them: our sets are split and modality."""
    sets = [
        (split, m)
        for split in ("test", "unseen")
        for m in MODALITIES
        if any(_modality(run, arm, split, m) for arm in run.arms)
    ]
    arms = [arm for arm in ("base", "sft", "medvlthinker") if arm in run.arms]
    if not sets or not arms:
        return [missing("Our figures in MedVLThinker's form")]
    rows = []
    for arm in arms:
        values = [number(_modality(run, arm, *each).get("accuracy")) for each in sets]
        known = [value for value in values if value is not None]
        mean = sum(known) / len(known) if len(known) == len(sets) else None
        rows.append(Row([run.title(arm), *map(percent, values), percent(mean)], "ours"))
    columns = ["arm, measured here", *(f"{split}: {words(m)}" for split, m in sets), "mean"]
    caption = "Mean: unweighted, over the columns before it, as in the paper; blank when one is not known."
    return [Table("Measured here, in the same form, accuracy, %", columns, rows, caption=caption)]


def _modality(run: Run, arm: str, split: str, modality: str) -> Mapping[str, Any]:
    return (run.scores(arm, split).get("by_modality") or {}).get(modality) or {}


def _mmedexpert() -> Table:
    rows = [
        Row([each["model"], each["medxpertqa_mm"], each["omnimedvqa"], each["source"]], "published")
        for each in rows_of("mmedexpert_r1")
    ]
    return Table(
        "MMedExpert-R1, accuracy, %",
        ["model", "MedXpertQA-MM", "OmniMedVQA", "source"],
        rows,
        align="lrrl",
        published=True,
    )


def _ours_arms(run: Run) -> list[Block]:
    arms = [arm for arm in ("base", "sft", "experts", "mmedexpert_policy", "mmedexpert") if arm in run.arms]
    if "mmedexpert" not in arms:
        return [missing("Our figures in MMedExpert-R1's form")]
    rows = [
        Row([run.title(arm), *(estimate(run.scores(arm, split)) for split in ("test", "unseen"))], "ours")
        for arm in arms
    ]
    return [Table("Measured here, in the same form, accuracy, %", ["arm, measured here", "test", "unseen"], rows)]


def _rarl() -> Table:
    sets = ["vqa_rad", "slake", "vqa_med_2019", "pathvqa"]
    found: dict[tuple[str, str, str], dict[str, dict[str, str]]] = {}
    for each in rows_of("rarl"):
        found.setdefault((each["method"], each["prompt"], each["judge"]), {})[each["dataset"]] = each
    rows = []
    for (method, prompt, judge), by in found.items():
        own = by.get("ours", {})
        finals = [_cell(by.get(s, {}).get("final")) for s in sets]
        rows.append(
            Row(
                [_method(method), words(prompt), judge, _cell(own.get("reasoning")), _cell(own.get("final")), *finals],
                "published",
            )
        )
    return Table(
        "RARL, judged scores, %",
        ["method", "prompt", "judge", "own set: reasoning", "own set: final", *(_SETS[s] for s in sets)],
        rows,
        align="lll",
        caption="Unseen sets have final scores only. The paper does not state the prompt of the first six rows. "
        "“RARL prompt diversity” is RARL plus prompt diversity; the two were not ablated apart.",
        published=True,
    )


def _ours_prompts(run: Run) -> list[Block]:
    rows = []
    for arm in [arm for arm in ("sft", "rarl") if arm in run.arms]:
        for suffix, prompt in (("", "reasoning"), ("_no_reasoning", "none")):
            test, unseen = run.scores(arm, f"test{suffix}"), run.scores(arm, f"unseen{suffix}")
            if test or unseen:
                cells = [prompt, percent(test.get("reasoning")), estimate(test), estimate(unseen)]
                rows.append(Row([run.title(arm), *cells], "ours"))
    if not rows:
        return [missing("Our figures in RARL's form")]
    columns = ["arm, measured here", "prompt", "test: reasoning", "test: final", "unseen: final"]
    caption = f"{judges(run.params)} Final: strict accuracy."
    return [Table("Measured here, in the same form, %", columns, rows, align="ll", caption=caption)]


def _cv_bench() -> Table:
    tasks = ["count", "relation", "depth", "distance", "total", "total_sample_weighted_recomputed"]
    rows = [
        Row(
            [_method(each["method"]), count(float(each["training_samples"])), *(_cell(each[t]) for t in tasks)],
            "published",
        )
        for each in rows_of("rarl_cv_bench")
    ]
    return Table(
        "RARL on CV-Bench, accuracy, %",
        [
            "method",
            "training samples",
            "count",
            "relation",
            "depth",
            "distance",
            "total as printed",
            "total recomputed",
        ],
        rows,
        caption="The last column weighs the four tasks by their samples; the printed totals do not all agree with it.",
        published=True,
    )
