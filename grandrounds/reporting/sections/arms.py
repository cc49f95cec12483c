"""Every arm on every split, with intervals: the table that the run is for."""

from grandrounds.params import ReferenceJudge
from grandrounds.reporting.blocks import Block, Figure, Row, Section, Table, Text, missing
from grandrounds.reporting.collect import Run
from grandrounds.reporting.numbers import MISSING, count, difference, estimate, number, percent, verdict
from grandrounds.reporting.plots import Dot, dots
from grandrounds.reporting.sections.summary import judges

TONES = {"base": "s6", "sft": "s1", "specialist": "s4", "merge": "s2", "rl": "s0"}
SIGNS = {"better": "▲", "worse": "▼", "no difference shown": "○"}


def section(run: Run) -> Section:
    if not run.arms:
        return Section("arms", "Every arm on every split", [missing("Scores of the judge")])
    blocks: list[Block] = [_overview(run)]
    if any(run.scores(arm, "test") for arm in run.arms):
        blocks.append(_chart(run))
    blocks += [_split(run, split) for split in run.splits]
    unscored = [run.title(arm) for arm in run.params.predict.arms if arm not in run.arms]
    blocks += [missing("Scores of " + ", ".join(unscored))] if unscored else []
    blocks += [_agreement(run), *_judges(run)]
    return Section("arms", "Every arm on every split", blocks)


def _overview(run: Run) -> Table:
    best = run.best()
    rows = [
        Row(
            [run.title(arm), *(estimate(run.scores(arm, split)) for split in run.splits)], "best" if arm == best else ""
        )
        for arm in run.arms
    ]
    sizes = "; ".join(f"{split} {_sizes(run, split)}" for split in run.splits)
    return Table(
        "Strict accuracy, % [95 % interval]",
        ["arm", *run.splits],
        rows,
        caption=f"Reasoning prompt, greedy decoding. Shaded: best on {run.params.publish.select_split}, which alone "
        f"chooses. n counts questions: {sizes}. Strict: exactly one think block, then exactly one answer block, and "
        "the answer right.",
    )


def _sizes(run: Run, split: str) -> str:
    """One n when the arms agree; all of them when they do not."""
    found = list(
        dict.fromkeys((count(s.get("n")), count(s.get("groups"))) for arm in run.arms if (s := run.scores(arm, split)))
    )
    return " or ".join(f"{n}" + (f" in {groups} groups" if groups != MISSING else "") for n, groups in found) or MISSING


def _chart(run: Run) -> Figure:
    best = run.best()
    known = [(arm, number(run.scores(arm, "test").get("accuracy"))) for arm in run.arms]
    ranked = sorted(known, key=lambda pair: -(pair[1] if pair[1] is not None else -1))
    rows = []
    for arm, _ in ranked:
        scores = run.scores(arm, "test")
        value, low, high = (_hundred(scores.get(key)) for key in ("accuracy", "low", "high"))
        rows.append(
            Dot(
                run.title(arm),
                value,
                low,
                high,
                TONES[run.params.predict.arms[arm].family],
                arm == best,
                estimate(scores),
            )
        )
    base = _hundred(run.scores("base", "test").get("accuracy"))
    table = Table(
        "Test accuracy, %",
        ["arm", "test"],
        [Row([run.title(arm), estimate(run.scores(arm, "test"))]) for arm, _ in ranked],
    )
    return Figure(
        "Accuracy on test, in order",
        [dots("Accuracy on test, % [95 % interval]", rows, "% right, strict", base)],
        "Grey: base (dashed line). Orange: SFT. Light blue: specialists, which are trained on one specialty and "
        "tested on all. Green: merges. Blue: reinforcement learning. Bold: best on val. Overlapping intervals do not "
        "show that two arms are equal; the paired differences below are the comparison.",
        table,
    )


def _split(run: Run, split: str) -> Table:
    baselines = [
        name
        for name in run.params.judge.baselines
        if any(f"delta_{name}" in run.scores(arm, split) for arm in run.arms)
    ]
    columns = ["arm", "strict, %", "lenient, %", "unparsed, %", "reasoning score, %"]
    for name in baselines:
        columns.append(f"points over {name}")
    rows, best = [], run.best()
    for arm in run.arms:
        scores = run.scores(arm, split)
        if not scores:
            continue
        cells = [
            run.title(arm),
            estimate(scores),
            *(percent(scores.get(k)) for k in ("lenient_accuracy", "unparsed_rate", "reasoning")),
        ]
        for name in baselines:
            delta = None if arm == name else scores.get(f"delta_{name}")
            cells.append(f"{difference(delta)} {SIGNS.get(verdict(delta), '')}".rstrip())
        rows.append(Row(cells, "best" if arm == best else ""))
    return Table(
        f"All figures on {split}",
        columns,
        rows,
        caption=f"n = {_sizes(run, split)}. Differences are paired over the same questions, in percentage points: ▲ "
        "better, ▼ worse, ○ no difference shown once all arms are corrected for (Holm). Lenient accepts an answer "
        "outside the asked form, and is never used to choose. The reasoning score is over the questions that have a "
        "reference explanation. " + judges(run.params),
    )


def _agreement(run: Run) -> Text:
    """Do the judge's figures follow from the predictions that lie on disk? A stale file shows here."""
    off, checked = [], 0
    for arm in run.arms:
        for split in run.splits:
            accuracy, rows = number(run.scores(arm, split).get("accuracy")), run.predictions.get(arm, [])
            right = [row.correct for row in rows if row.split == split and row.prompt == "reasoning"]
            if accuracy is None or not right:
                continue
            checked += 1
            if abs(sum(right) / len(right) - accuracy) > 1e-6:
                off.append(
                    f"{run.title(arm)} on {split} ({percent(sum(right) / len(right))} % against {percent(accuracy)} %)"
                )
    if off:
        text = "The verifier's reading of data/predictions and the judge's accuracy differ: " + "; ".join(off)
        return Text(text + ". Run the judge stage again, or read these rows with care.", tone="warning")
    if not checked:
        return missing("The predictions, from which these figures could be recounted")
    return Text(
        f"Recounted from data/predictions: all {checked} accuracies agree with the judge's figures.", tone="note"
    )


def _judges(run: Run) -> list[Block]:
    if not run.verdicts:
        return [missing("The judges' verdicts")]
    rows = []
    for name in sorted({row.judge for row in run.verdicts}):
        of = [row for row in run.verdicts if row.judge == name and row.prompt == "reasoning"]
        finals = [row.prediction_score for row in of if row.prediction_score is not None]
        reasons = [row.reasoning_score for row in of if row.reasoning_score is not None]
        judge = run.params.judge.judges.get(name)
        what = (
            "fixed code, not a language model"
            if isinstance(judge, ReferenceJudge)
            else f"language model {getattr(judge, 'model', '')}"
        )
        rows.append(
            Row(
                [
                    name,
                    what if judge else "not in params.yaml",
                    count(len(of)),
                    count(len(of) - len(finals)),
                    percent(sum(finals) / len(finals)) if finals else MISSING,
                    count(len(reasons)),
                    percent(sum(reasons) / len(reasons)) if reasons else MISSING,
                ]
            )
        )
    columns = [
        "judge",
        "what it is",
        "verdicts",
        "unscored",
        "final score, %",
        "with a reasoning score",
        "reasoning score, %",
    ]
    caption = (
        "Over all arms and splits, reasoning prompt. n counts verdicts; one that a judge did not give is unscored, "
        "never 0."
    )
    return [Table("The judges", columns, rows, align="ll", caption=caption)]


def _hundred(value: object) -> float | None:
    known = number(value)
    return None if known is None else 100 * known
