"""Ablations: arms that differ in one thing, over seeds; what `grandrounds ablate` left in reports/ablations."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from grandrounds import files
from grandrounds.reporting.blocks import Block, Row, Section, Table, Text, missing
from grandrounds.reporting.collect import Run
from grandrounds.reporting.numbers import MISSING, difference, estimate, number, percent, points

COLUMNS = (
    "arm",
    "accuracy, %",
    "over seeds",
    "gain, points",
    "gain over seeds",
    "shown",
    "reasoning, %",
    "gain, points",
)
FOLDER = Path("reports/ablations")


def section(run: Run) -> Section:
    title = "Ablations"
    found = [files.read_json(path) for path in sorted((run.root / FOLDER).glob("*.json"))]
    if not found:
        return Section("ablations", title, [missing("Ablations (`grandrounds ablate NAME --seeds 3`)")])
    blocks: list[Block] = [
        Text(
            "Each arm was trained once a seed, and only its own training differs between seeds: data, base, filter and "
            "traces are the run's. An arm's value on a question is its mean over seeds. Intervals are 95 %, paired by "
            "question, for these seeds; what the seeds differ by stands beside them. A gain is shown when its interval "
            "leaves out zero and every seed has its sign. Several comparisons stand here without a correction."
        )
    ]
    for each in found:
        blocks += [Text(each["claim"], lead=each["asks"])]
        for split in each["splits"]:
            if split != run.params.publish.select_split:
                others = [arm for arm in each["splits"][split] if arm != each["against"]]
                rows = [Row(cells(each, split, arm)) for arm in (each["against"], *others)]
                blocks.append(Table(f"{each['name']} on {split}", COLUMNS, rows, "lfrfrlff", _counted(each, split)))
    return Section("ablations", title, blocks)


def cells(found: Mapping[str, Any], split: str, arm: str) -> list[str]:
    """One row of the table: an arm on a split. Gains are over the arm that stands for what is left out."""
    scores = found["splits"][split][arm]
    accuracy, reasoning = scores["accuracy"], scores["reasoning"]
    gain = accuracy.get("gain")
    return [
        arm,
        estimate(accuracy, "mean"),
        ", ".join(map(percent, accuracy["by_seed"])),
        difference(gain) if gain else "(against)",
        ", ".join(map(points, gain["by_seed"])) if gain else MISSING,
        gain["shown"] if gain else MISSING,
        estimate(reasoning, "mean"),
        f"{difference(reasoning['gain'])} {_note(reasoning['gain'])}".strip() if gain else MISSING,
    ]


def _note(gain: Mapping[str, Any]) -> str:
    return "" if gain["shown"] == "no" or number(gain["difference"]) is None else f"({gain['shown']})"


def _counted(found: Mapping[str, Any], split: str) -> str:
    scores = next(iter(found["splits"][split].values()))
    return (
        f"{found['seeds']} seeds, {scores['n']} questions in {scores['groups']} groups. Gains are over "
        f"'{found['against']}'; reasoning is the reference judge's score."
    )
