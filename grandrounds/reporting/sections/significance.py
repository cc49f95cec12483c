"""Every paired test of the judge stage; and, where they were asked for, pass@k and the mean over benchmarks."""

from collections.abc import Iterator, Mapping
from typing import Any

from grandrounds.reporting.blocks import Block, Row, Section, Table, missing
from grandrounds.reporting.collect import Run
from grandrounds.reporting.numbers import MISSING, count, difference, estimate, number, percent, points, verdict

BASELINES = ("base", "sft")
SMALLEST = 1e-4  # a p-value under it is printed as such


def section(run: Run) -> Section:
    blocks: list[Block] = [table for baseline in BASELINES if (table := _tests(run, baseline))]
    blocks += [table for split in run.splits if (table := _sampled(run, split))]
    if macro := _macro(run):
        blocks.append(macro)
    return Section("significance", "Tests and sampled answers", blocks or [missing("Paired tests of the arms")])


def _tests(run: Run, baseline: str) -> Table | None:
    rows: list[Row] = []
    for split in run.splits:
        found = [(arm, delta) for arm, delta in _deltas(run, split, baseline) if number(delta.get("p")) is not None]
        rows += [Row([split], "group")] if found else []
        rows += [
            Row(
                [
                    run.title(arm),
                    difference(delta),
                    f"{count(delta.get('wins'))} / {count(delta.get('losses'))}",
                    probability(delta.get("p")),
                    probability(delta.get("p_holm")),
                    points(delta.get("detectable")),
                    verdict(delta),
                ]
            )
            for arm, delta in found
        ]
    if not rows:
        return None
    return Table(
        f"Paired tests against {run.title(baseline)}",
        ["arm", "points [95 %]", "won / lost", "p", "p, Holm", "detectable", "ruling"],
        rows,
        align="lrrrrrl",
        caption="Won and lost: questions that one of the two has right and the other wrong. p: McNemar's test by "
        "group, by flipping signs; Holm corrects it for all arms of the split. Detectable: the smallest true "
        "difference, in points, that such a set of questions would show in four of five draws.",
    )


def _deltas(run: Run, split: str, baseline: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for arm in run.arms:
        delta = run.scores(arm, split).get(f"delta_{baseline}")
        if arm != baseline and isinstance(delta, dict):
            yield arm, delta


def _sampled(run: Run, split: str) -> Table | None:
    found = {arm: scores for arm in run.arms if (scores := run.scores(arm, f"{split}_sampled"))}
    ks = sorted({int(k) for scores in found.values() for k in scores.get("pass_at") or {}})
    if not ks:
        return None
    rows = [
        Row(
            [
                run.title(arm),
                count(scores.get("samples")),
                *(percent((scores.get("pass_at") or {}).get(str(k))) for k in ks),
                _interval(scores, "majority"),
            ]
        )
        for arm, scores in found.items()
    ]
    return Table(
        f"Sampled answers on {split}, %",
        ["arm", "samples", *(f"pass@{k}" for k in ks), "majority [95 %]"],
        rows,
        caption="pass@k: at least one of k samples is right, without bias (Chen et al., 2021). Majority: the answer "
        "that most samples give.",
    )


def _macro(run: Run) -> Table | None:
    found = {
        arm: scores for arm in run.arms if number((scores := run.scores(arm, "macro")).get("accuracy")) is not None
    }
    if not found:
        return None
    rows = [
        Row([run.title(arm), count(scores.get("sets")), estimate(scores), percent(scores.get("unparsed_rate"))])
        for arm, scores in found.items()
    ]
    return Table(
        "Mean over the benchmarks, %",
        ["arm", "benchmarks", "accuracy [95 %]", "not parsed"],
        rows,
        caption="Each benchmark weighs the same, whatever its size, as the papers average.",
    )


def _interval(scores: Mapping[str, Any], key: str) -> str:
    return estimate({"accuracy": scores.get(key), "low": scores.get(f"{key}_low"), "high": scores.get(f"{key}_high")})


def probability(value: Any) -> str:
    known = number(value)
    if known is None:
        return MISSING
    return f"< {SMALLEST:.4f}" if known < SMALLEST else f"{known:.4f}"
