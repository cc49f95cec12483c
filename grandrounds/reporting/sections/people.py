"""People's ratings beside the judges': agreement beyond chance, and the papers' human columns."""

import itertools
from collections.abc import Mapping

from grandrounds.domain.agreement import Kappa, cohen, fleiss
from grandrounds.domain.statistics import Resampler
from grandrounds.reporting.blocks import Block, Row, Section, Table, Text
from grandrounds.reporting.collect import Run
from grandrounds.reporting.numbers import MISSING, count, decimal, estimate, percent
from grandrounds.reporting.ratings import Key, Score

TITLE = "People"
VERIFIER = "verifier"
KINDS = ("final", "reasoning")
Scores = Mapping[Key, tuple[Score, Score]]


def section(run: Run) -> Section:
    given = run.ratings.given
    blocks: list[Block] = []
    if run.ratings.outdated:
        rows = run.ratings.outdated
        blocks.append(
            Text(
                f"{count(len(rows))} rated answers are not what the models say now (first: {rows[0]}): these ratings "
                "are used for nothing. Export a new sheet to have the new answers rated.",
                tone="warning",
            )
        )
    if not given:
        told = "No answer of this run was rated by a person: `grandrounds human export` makes a sheet for it."
        return Section("people", TITLE, [*blocks, Text(told, tone="missing")])
    others = _judges(run)
    groups = {question.id: question.group for found in run.questions.values() for question in found.values()}
    blocks += [_pairs(run, given, others, groups), *_all_raters(run, given, groups), _means(run, given, groups)]
    return Section("people", TITLE, blocks)


def _judges(run: Run) -> dict[str, Scores]:
    """Every judge's scores, and the verifier's, in the form of a rater's."""
    found: dict[str, dict[Key, tuple[Score, Score]]] = {
        VERIFIER: {
            (row.arm, row.split, row.prompt, row.question_id): (int(row.correct), None)
            for rows in run.predictions.values()
            for row in rows
        }
    }
    for row in run.verdicts:
        key = (row.arm, row.split, row.prompt, row.question_id)
        found.setdefault(f"judge {row.judge}", {})[key] = (row.prediction_score, row.reasoning_score)
    return dict(found)


def _pairs(run: Run, given: Mapping[str, Scores], others: Mapping[str, Scores], groups: Mapping[str, str]) -> Table:
    pairs = [*itertools.combinations(given, 2), *itertools.product(given, others)]
    both = {**given, **others}
    rows = []
    for first, second in pairs:
        shared = sorted(set(both[first]) & set(both[second]))
        cells = []
        for kind in range(2):
            one, two = ([both[rater][key][kind] for key in shared] for rater in (first, second))
            made = cohen(one, two, [groups.get(key[3], key[3]) for key in shared], _draws(run), run.params.seed)
            cells += _cells(made)
        rows.append(Row([f"{first} and {second}", *cells]))
    columns = ["who", *(f"{kind}: {what}" for kind in KINDS for what in ("n", "agree, %", "kappa"))]
    caption = (
        "Cohen's kappa is agreement beyond chance: 0 is chance, 1 is full agreement, and it is a dash where only one "
        "score was ever given. 95 % intervals in brackets, by bootstrap over groups of questions. n counts answers "
        "that both scored; the verifier scores no reasoning."
    )
    return Table("How far people agree with each other and with the judges", columns, rows, caption=caption)


def _all_raters(run: Run, given: Mapping[str, Scores], groups: Mapping[str, str]) -> list[Block]:
    if len(given) < 3:
        return []
    keys = sorted(set.union(*(set(found) for found in given.values())))
    cells = []
    for kind in range(2):
        ratings = [[found.get(key, (None, None))[kind] for found in given.values()] for key in keys]
        cells += _cells(fleiss(ratings, [groups.get(key[3], key[3]) for key in keys], _draws(run), run.params.seed))
    columns = ["who", *(f"{kind}: {what}" for kind in KINDS for what in ("n", "agree, %", "kappa"))]
    row = Row([f"all {len(given)} raters", *cells])
    caption = "Fleiss' kappa, over answers that all of them scored; “agree” is the share of pairs of raters that do."
    return [Table("All raters at once", columns, [row], caption=caption)]


def _cells(made: Kappa) -> list[str]:
    if made.low is None:
        kappa = decimal(made.value)
    else:
        kappa = f"{decimal(made.value)} [{decimal(made.low)}, {decimal(made.high)}]"
    return [count(made.n), percent(made.observed), kappa]


def _means(run: Run, given: Mapping[str, Scores], groups: Mapping[str, str]) -> Table:
    rows = []
    for arm in run.params.predict.arms:
        cells: list[str] = []
        for kind in range(2):
            scored = _mean_scores(arm, given, kind)
            questions = [groups.get(key[3], key[3]) for key in scored]
            made = Resampler(questions, _draws(run), run.params.seed).mean(list(scored.values())) if scored else None
            cells += [
                count(len(scored)),
                estimate({"accuracy": made.value, "low": made.low, "high": made.high}) if made else MISSING,
            ]
        if cells[0] != "0":
            rows.append(Row([run.title(arm), *cells]))
    caption = (
        "Each answer counts once, with the mean of those who rated it; an answer that nobody scored is left out, never "
        "counted as 0. With few groups of questions an interval says little."
    )
    return Table("What people gave, %", ["arm", "n", "final", "n", "reasoning"], rows, caption=caption)


def _mean_scores(arm: str, given: Mapping[str, Scores], kind: int) -> dict[Key, float]:
    values: dict[Key, list[int]] = {}
    for found in given.values():
        for key, scores in found.items():
            score = scores[kind]
            if key[0] == arm and score is not None:
                values.setdefault(key, []).append(score)
    return {key: sum(each) / len(each) for key, each in sorted(values.items())}


def _draws(run: Run) -> int:
    return run.params.judge.resamples
