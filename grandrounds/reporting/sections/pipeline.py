"""The pipeline as params.yaml describes it, drawn."""

from grandrounds.reporting.blocks import Figure, Row, Section, Table
from grandrounds.reporting.collect import Run
from grandrounds.reporting.graph import Box, layered, mermaid
from grandrounds.reporting.numbers import duration, words
from grandrounds.reporting.stages import Step, drawn

TONES = {
    "curate": "data", "filter": "data", "distill": "data", "base": "train", "adapt": "train", "grpo": "train",
    "merge": "merge", "predict": "score", "judge": "score", "publish": "score",
}  # fmt: skip


def section(run: Run) -> Section:
    nodes, edges = drawn(run.params)
    boxes = {key: _box(run, step) for key, step in nodes.items()}
    rows = [Row([key, ", ".join(start for start, end in edges if end == key) or "the sources"]) for key in nodes]
    figure = Figure(
        "The stages of this run",
        [layered("Stage graph", boxes, edges)],
        "Every box is one step of dvc.yaml. Green: data. Blue: training. Orange: merging. Purple: scoring. A line "
        "says that the lower step reads what the upper one wrote; lines that follow from others are left out.",
        Table("Steps and what they read", ["step", "reads from"], rows, align="ll"),
        mermaid({key: _name(key, box) for key, box in boxes.items()}, edges),
    )
    return Section("pipeline", "The pipeline", [figure])


def _box(run: Run, step: Step) -> Box:
    arms = len(run.params.predict.arms)
    name = f"{arms} arms" if step.stage == "predict" else words(step.item or step.stage)
    records = [value for key, value in run.records.items() if key == step.report or key.startswith(f"{step.report}/")]
    seconds = [value["seconds"] for value in records if isinstance(value.get("seconds"), int | float)]
    parts = [step.stage] if step.item or step.stage == "predict" else []
    parts += [duration(sum(seconds))] if seconds else []
    return Box(name, " · ".join(parts), TONES[step.stage])


def _name(key: str, box: Box) -> str:
    return "predict: " + box.name if key == "predict" else key.replace("@", ": ").replace("_", " ")
