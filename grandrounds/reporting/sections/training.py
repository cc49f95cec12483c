"""Learning curves: the base and teacher, SFT, and the three reinforcement-learning systems."""

from collections.abc import Sequence

from markupsafe import Markup

from grandrounds.params import Gba, GrpoItem
from grandrounds.reporting.blocks import Block, Figure, Row, Section, Table, Text, missing
from grandrounds.reporting.collect import Curves, Run
from grandrounds.reporting.numbers import count, decimal, percent, scientific, words
from grandrounds.reporting.plots import Series, lines


def section(run: Run) -> Section:
    blocks: list[Block] = [*_supervised(run)]
    for name in run.params.grpo.items:
        blocks += _reinforced(run, name)
    blocks += _systems(run)
    return Section("training", "Training", blocks)


def _supervised(run: Run) -> list[Block]:
    curves = {name: run.curves.get(f"adapt/{name}", {}) for name in run.params.adapt.items}
    series = [line for name, curve in curves.items() if (line := _series(words(name), curve, "loss"))]
    lost = [words(name) for name, curve in curves.items() if not _series(name, curve, "loss")]
    drawings, rows = [], []
    base = _series("base", run.curves.get("base", {}), "loss")
    if base:
        drawings.append(lines("Loss of the base", [base], "step", from_zero=True))
        rows.append(_sampled(base))
    if series:
        drawings.append(lines("Loss of the adapters", series, "step", from_zero=True))
        rows += [_sampled(line) for line in series]
    blocks: list[Block] = []
    if drawings:
        blocks.append(
            Figure(
                "Supervised training",
                drawings,
                "Cross-entropy per token of the assistant's turn, in nats. A falling curve says that the traces are "
                "learned, not that answers on new questions are right.",
                _samples("Loss at five steps", rows),
            )
        )
    else:
        blocks.append(missing("Loss curves of supervised training"))
    if drawings and lost:
        blocks.append(missing("Loss of " + ", ".join(lost)))
    found = [(name, run.metrics[f"adapt/{name}"]) for name in run.params.adapt.items if f"adapt/{name}" in run.metrics]
    if found:
        cells = [
            Row(
                [
                    words(name),
                    *(count(m.get(key)) for key in ("questions", "steps", "trainable_parameters")),
                    decimal(m.get("loss_first"), 3),
                    decimal(m.get("loss_last"), 3),
                    percent(m.get("token_accuracy")),
                ]
            )
            for name, m in found
        ]
        columns = [
            "adapter",
            "questions",
            "steps",
            "trainable parameters",
            "loss at first",
            "loss at last",
            "tokens right, %",
        ]
        blocks.append(
            Table("The adapters", columns, cells, caption="n counts the traces that an adapter learned from.")
        )
    return blocks


def _reinforced(run: Run, name: str) -> list[Block]:
    """One figure a system: total reward, each reward apart, completion length, zero-variance groups."""
    curve = run.curves.get(f"grpo/{name}", {})
    reward = _series("total", curve, "reward")
    if reward is None:
        return [missing(f"Reward curves of {words(name)}")]
    drawings: list[Markup] = [lines(f"{words(name)}: total reward", [reward], "step", smooth=True)]
    table = [_sampled(reward)]
    parts = [line for key in curve if (label := _reward_name(key)) and (line := _series(label, curve, key))]
    if len(parts) > 1:
        drawings.append(lines("Each reward, before its weight", parts, "step", smooth=True))
        table += [_sampled(line) for line in parts]
    for key, title in (
        ("completion_length", "Completion length, tokens"),
        ("zero_variance_share", "Zero-variance groups, share"),
    ):
        line = _series(title, curve, key)
        if line:
            drawings.append(lines(title, [line], "step", smooth=True, from_zero=True))
            table.append(_sampled(line))
    caption = (
        "Bold: running mean over a tenth of the steps; faint: each step. Rewards are those of sampled training "
        "completions, not accuracy on test. A reward that rises with the length alone would be padding. A group "
        "whose rewards are all equal teaches nothing."
    )
    title = f"Reinforcement learning: {words(name)}"
    return [Figure(title, drawings, caption, _samples("Curves at five steps", table))]


def _systems(run: Run) -> list[Block]:
    found = [(name, run.metrics[f"grpo/{name}"]) for name in run.params.grpo.items if f"grpo/{name}" in run.metrics]
    lost = [words(name) for name in run.params.grpo.items if f"grpo/{name}" not in run.metrics]
    blocks: list[Block] = []
    if found:
        rows = [
            Row(
                [
                    words(name),
                    words(run.params.grpo.items[name].init.name),
                    _advantages(run.params.grpo.items[name]),
                    *(count(m.get(key)) for key in ("questions", "steps")),
                    scientific(run.params.grpo.items[name].learning_rate),
                    decimal(m.get("reward_first"), 3),
                    decimal(m.get("reward_last"), 3),
                    percent(m.get("zero_variance_share")),
                ]
            )
            for name, m in found
        ]
        columns = [
            "system", "starts from", "advantages", "questions", "steps", "learning rate",
            "reward at first", "reward at last", "zero-variance groups, %",
        ]  # fmt: skip
        caption = (
            "First and last: means over the first and the last tenth of the steps. Totals of different rewards do "
            "not compare."
        )
        blocks.append(Table("The three systems", columns, rows, align="lllrrrrrr", caption=caption))
        rewards = []
        for name, m in found:
            for reward, ends in sorted((m.get("rewards") or {}).items()):
                ends = ends if isinstance(ends, dict) else {}
                share = (m.get("advantage_share") or {}).get(reward)
                weight = run.params.grpo.items[name].rewards.get(reward)
                cells = [decimal(weight), decimal(ends.get("first"), 3), decimal(ends.get("last"), 3), percent(share)]
                rewards.append(Row([f"{words(name)}: {words(reward)}", *cells]))
        if rewards:
            blocks.append(
                Table(
                    "Each reward, and its share of the advantage",
                    ["reward", "weight", "at first", "at last", "share of the advantage, %"],
                    rewards,
                    caption="The share says which reward moved the policy: a graded reward (length, BERTScore) can "
                    "own the advantage of groups whose answers are all right or all wrong.",
                )
            )
            blocks.append(
                Text(
                    "BERTScore is a reward signal here, never a verdict: it is nearly blind to negation and to "
                    "numbers.",
                    tone="note",
                )
            )
    blocks += [missing("Reinforcement learning of " + ", ".join(lost))] if lost else []
    return blocks


def _advantages(item: GrpoItem) -> str:
    if isinstance(item.advantages, Gba):
        return (
            f"guideline-based, {len(item.advantages.guidelines)} × {item.group // len(item.advantages.guidelines)} "
            "rollouts"
        )
    return f"group-relative, {item.group} rollouts"


def _reward_name(column: str) -> str:
    """`rewards/format` -> format; trl also writes `rewards/format/mean`, and `/std`, which is no reward."""
    parts = column.split("/")
    return words(parts[1]) if parts[0] == "rewards" and len(parts) > 1 and parts[-1] != "std" else ""


def _series(name: str, curve: Curves, column: str) -> Series | None:
    """The known points of a column; None when there are fewer than two."""
    pairs = [
        (x, y)
        for x, y in zip(curve.get("step", []), curve.get(column, []), strict=False)
        if x is not None and y is not None
    ]
    return (name, [x for x, _ in pairs], [y for _, y in pairs]) if len(pairs) > 1 else None


def _sampled(line: Series) -> Row:
    name, xs, ys = line
    picks = [round(part * (len(xs) - 1) / 4) for part in range(5)]
    return Row([name, *(f"{decimal(ys[pick], 3)} at {xs[pick]:.0f}" for pick in picks)])


def _samples(title: str, rows: Sequence[Row]) -> Table:
    return Table(
        title, ["curve", "first", "a quarter", "half", "three quarters", "last"], rows, caption="Value at step."
    )
