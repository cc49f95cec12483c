"""Which version or checkpoint satisfies what was asked: `val.accuracy > 0.6 and val.reasoning >= 0.5`.

A small language, read by a pattern: metric, comparison, number, joined by `and`. Nothing that is typed is ever run.
Selection sees the validation split only; test and unseen are reported, and choosing on them would spoil the report.
"""

import math
import operator
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from grandrounds.errors import UserError, unknown
from grandrounds.tracking import store

COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge, "<=": operator.le, "==": operator.eq, "!=": operator.ne, ">": operator.gt, "<": operator.lt,
}  # fmt: skip
CONDITION = re.compile(
    r"\s*(?P<metric>[A-Za-z_][\w./-]*)\s*(?P<sign>>=|<=|==|!=|>|<)\s*(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)\s*",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Condition:
    metric: str
    sign: str
    number: float

    def holds(self, scores: dict[str, float]) -> bool:
        """False where the metric was not scored: unscored is not zero."""
        value = scores.get(self.metric)
        return value is not None and COMPARISONS[self.sign](value, self.number)


@dataclass(frozen=True)
class Candidate:
    """A registered version, or a checkpoint that MLflow has as a logged model."""

    name: str  # the arm, or stage, item and step
    version: str  # "" for a checkpoint that is no version yet
    model_id: str
    run_id: str
    scores: dict[str, float]  # val.accuracy -> 0.62
    tags: dict[str, str]


@dataclass(frozen=True)
class Picked:
    """What was found, the best first; `unscored` are those without the metric to order by."""

    found: list[Candidate]
    unscored: list[Candidate]
    others: list[Candidate]  # that a condition ruled out


def parse(text: str) -> list[Condition]:
    """The conditions of an expression; UserError that shows the part that cannot be read."""
    conditions = []
    for part in re.split(r"\band\b", text, flags=re.IGNORECASE):
        match = CONDITION.fullmatch(part)
        if not match or not math.isfinite(float(match["number"])):
            raise UserError(
                f"--where: cannot read '{part.strip()}'; expected METRIC COMPARISON NUMBER, joined by 'and', such as "
                f"'val.accuracy > 0.6 and val.reasoning >= 0.5' (comparisons: {' '.join(COMPARISONS)})"
            )
        conditions.append(Condition(match["metric"], match["sign"], float(match["number"])))
    return conditions


def select(candidates: Iterable[Candidate], where: str, order_by: str, split: str, ascending: bool = False) -> Picked:
    """The candidates that hold all conditions, by `order_by` from the highest (or lowest); ties as they were given.

    Raises UserError for a metric that none of them has, with the nearest, and for one of a split other than `split`.
    """
    rows = list(candidates)
    conditions = parse(where) if where.strip() else []
    known = sorted({name for row in rows for name in row.scores})
    for metric in [*(condition.metric for condition in conditions), order_by]:
        _allowed(metric, known, split)
    holds = [row for row in rows if all(condition.holds(row.scores) for condition in conditions)]
    scored = [row for row in holds if order_by in row.scores]
    sign = 1 if ascending else -1
    return Picked(
        sorted(scored, key=lambda row: sign * row.scores[order_by]),
        [row for row in holds if order_by not in row.scores],
        [row for row in rows if row not in holds],
    )


def _allowed(metric: str, known: Sequence[str], split: str) -> None:
    usable = [name for name in known if name.partition(".")[0] in (split, f"{split}_no_reasoning")]
    if metric in usable:
        return
    if metric in known:
        raise UserError(
            f"'{metric}': models are chosen on '{split}' alone; {metric.partition('.')[0]} is only reported"
        )
    raise unknown("metric", metric, usable)


def scores_of(tags: dict[str, str]) -> dict[str, float]:
    """The scores among a version's tags, which are those with a dot in their name: `val.accuracy`."""
    found = {}
    for key, value in tags.items():
        if "." in key and not key.startswith(("mlflow.", "grandrounds.")):
            try:
                found[key] = float(value)
            except ValueError:
                continue
    return {key: value for key, value in found.items() if math.isfinite(value)}


def versions(client: Any, model: str) -> list[Candidate]:
    """Every version of the registered model, the newest of an arm first; UserError where there is no such model."""
    rows = client.search_model_versions(f"name = '{model}'", max_results=10_000)
    if not rows:
        names = [each.name for each in client.search_registered_models()]
        raise (
            unknown("registered model", model, names)
            if model not in names
            else UserError(f"{model}: no version yet; `dvc repro` registers every arm")
        )
    newest = sorted(rows, key=lambda row: -int(row.version))
    return [
        Candidate(
            row.tags.get("arm", f"version {row.version}"), str(row.version), store.model_id(row), row.run_id or "",
            scores_of(row.tags), dict(row.tags),
        )
        for row in newest
    ]  # fmt: skip


def checkpoints(client: Any, experiment: str, split: str) -> list[Candidate]:
    """Every checkpoint of a training that was logged with its weights; its scores are of a sample of the split."""
    rows, token = [], None
    while True:
        page = client.search_logged_models([experiment], max_results=100, page_token=token)
        rows += [row for row in page if "step" in row.tags and row.metrics and str(row.status) == "READY"]
        token = page.token
        if not token:
            break
    return [
        Candidate(
            row.name, "", row.model_id, row.source_run_id or "",
            {f"{split}.{metric.key}": metric.value for metric in row.metrics}, dict(row.tags),
        )
        for row in rows
    ]  # fmt: skip
