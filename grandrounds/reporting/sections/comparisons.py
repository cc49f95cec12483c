"""RLVR against SFT, reasoning against non-reasoning prompt, and accuracy by kind and modality."""

from grandrounds.records import KINDS, MODALITIES
from grandrounds.reporting.blocks import Block, Figure, Row, Section, Table, Text, missing
from grandrounds.reporting.collect import Run
from grandrounds.reporting.numbers import count, difference, estimate, number, percent, verdict, words
from grandrounds.reporting.plots import Dot, dots
from grandrounds.reporting.sections.arms import TONES
from grandrounds.reporting.stages import reinforced

_STARTS = {"base": "RL straight from base", "adapted": "RL after the specialists' SFT"}


def rlvr(run: Run) -> Section:
    title = "RLVR against SFT"
    arms = [arm for arm in run.arms if reinforced(run.params, arm)]
    splits = [split for split in run.splits if any(_delta(run, arm, split) is not None for arm in arms)]
    if not splits:
        return Section("rlvr", title, [missing("Paired differences of the reinforcement-learning arms against SFT")])
    rows, marks = [], []
    for start, name in _STARTS.items():
        of = [arm for arm in arms if reinforced(run.params, arm) == start]
        rows += [Row([name], "group")] if of else []
        for arm in of:
            cells = [cell for split in splits for cell in _against(run, arm, split)]
            rows.append(Row([run.title(arm), *cells]))
            if (delta := _delta(run, arm, "test")) is not None:
                tone = TONES[run.params.predict.arms[arm].family]
                value, low, high = (_points(delta.get(k)) for k in ("difference", "low", "high"))
                marks.append(Dot(run.title(arm), value, low, high, tone, text=difference(delta)))
    table = Table(
        "Points over SFT [95 % paired interval]",
        ["arm", *(name for split in splits for name in (split, "shown"))],
        rows,
        align="l" + "fl" * len(splits),
        caption="Better or worse only when the interval leaves out zero and McNemar's test, corrected for all arms by "
        "Holm, bears it out.",
    )
    blocks: list[Block] = [
        Text(
            "MedVLThinker reports that reinforcement learning beats supervised fine-tuning on its data. Whether that "
            "holds here is an open question: the teacher's traces are clean and the rules few, which favours SFT, "
            "and SFT was not held back. What was measured stands below, either way."
        )
    ]
    if marks:
        blocks.append(
            Figure(
                "Reinforcement learning minus SFT, on test",
                [dots("Points over SFT on test [95 % paired interval]", marks, "points", 0.0)],
                "Right of the dashed line: reinforcement learning is ahead. An interval that crosses the line shows "
                "no difference.",
            )
        )
    return Section("rlvr", title, [*blocks, table])


def prompts(run: Run) -> Section:
    title = "Reasoning against non-reasoning prompt"
    splits = [
        split for split in run.splits if any(_gain(run, arm, split) or _plain(run, arm, split) for arm in run.arms)
    ]
    if not splits:
        return Section("prompts", title, [missing("The non-reasoning prompt")])
    blocks: list[Block] = []
    for split in splits:
        rows = []
        for arm in run.arms:
            gain = _gain(run, arm, split)
            cells = [
                estimate(run.scores(arm, split)),
                estimate(_plain(run, arm, split)),
                difference(gain),
                verdict(gain),
            ]
            rows.append(Row([run.title(arm), *cells]))
        blocks.append(
            Table(
                f"Prompts on {split}",
                ["arm", "reasoning, %", "non-reasoning, %", "gain, points", "reasoning is"],
                rows,
                align="lrrrl",
                caption="Gain: reasoning minus non-reasoning, paired over the same questions. RARL reports gains of "
                "2.7 to 5.3 points on its own set. An arm that was never trained on the non-reasoning form may lose "
                "by the form alone.",
            )
        )
    return Section("prompts", title, blocks)


def kinds(run: Run) -> Section:
    title = "By kind and modality"
    groups = [("by_kind", KINDS), ("by_modality", MODALITIES)]
    blocks: list[Block] = []
    for split in run.splits:
        if split == run.params.publish.select_split:
            continue
        fields = []
        for key, order in groups:
            found = {name for arm in run.arms for name in run.scores(arm, split).get(key) or {}}
            fields += [(key, name) for name in [*(n for n in order if n in found), *sorted(found - set(order))]]
        if not fields:
            continue
        best = run.best()
        rows = []
        for arm in run.arms:
            cells = [
                percent(((run.scores(arm, split).get(key) or {}).get(name) or {}).get("accuracy"))
                for key, name in fields
            ]
            rows.append(Row([run.title(arm), *cells], "best" if arm == best else ""))
        sizes = {field: _size(run, split, *field) for field in fields}
        told = ", ".join(f"{words(name)} {size}" for (_, name), size in sizes.items())
        blocks.append(
            Table(
                f"Accuracy by kind and modality on {split}, %",
                ["arm", *(words(name) for _, name in fields)],
                rows,
                caption=f"n counts questions: {told}. Kinds and modalities each split the same questions, so they add "
                "up apart.",
            )
        )
    return Section("kinds", title, blocks or [missing("Accuracy by kind and modality")])


def _size(run: Run, split: str, key: str, name: str) -> str:
    sizes = {
        count(((run.scores(arm, split).get(key) or {}).get(name) or {}).get("n"))
        for arm in run.arms
        if run.scores(arm, split)
    }
    return " or ".join(sorted(sizes))


def _against(run: Run, arm: str, split: str) -> list[str]:
    delta = _delta(run, arm, split)
    return [difference(delta), verdict(delta)]


def _delta(run: Run, arm: str, split: str) -> dict | None:
    delta = run.scores(arm, split).get("delta_sft")
    return delta if isinstance(delta, dict) and number(delta.get("difference")) is not None else None


def _gain(run: Run, arm: str, split: str) -> dict | None:
    gain = run.scores(arm, split).get("prompt_gain")
    return gain if isinstance(gain, dict) else None


def _plain(run: Run, arm: str, split: str) -> dict:
    return dict(run.scores(arm, f"{split}_no_reasoning"))


def _points(value: object) -> float | None:
    known = number(value)
    return None if known is None else 100 * known
