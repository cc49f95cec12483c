"""What an ablation found: arms over questions and over seeds.

An arm's value on a question is its mean over seeds. Intervals are 95 %, paired, by bootstrap over groups of questions
for the seeds that were drawn; how far seeds differ stands beside them (`by_seed`, `sd`), as no interval over questions
knows of it. A difference is `shown` only when its interval leaves out zero and every seed has its sign (ours: with
three seeds an interval over seeds would be a guess).
"""

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from grandrounds.domain.judging import reference_scores
from grandrounds.domain.statistics import Resampler
from grandrounds.records import Prediction, Question

REASONING = "reasoning"
_NONE = float("nan")
Column = list[float]  # one value a question


def compare(
    questions: Sequence[Question],
    runs: Mapping[str, Sequence[Sequence[Prediction]]],
    against: str,
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """{split: {arm: {accuracy, reasoning, tokens}}} with {mean, low, high, by_seed, sd} and, but for `against`, `gain`.

    `runs`: arm -> one list of predictions a seed, in the same order of seeds for all arms. Under the reasoning prompt
    only. `reasoning` is the reference judge's score, over the questions that have key facts. Fractions of 1.
    ValueError when arms have different numbers of seeds.
    """
    if len({len(each) for each in runs.values()}) != 1:
        raise ValueError(f"every arm wants the same seeds, not { ({arm: len(each) for arm, each in runs.items()}) }")
    by_split: dict[str, list[Question]] = defaultdict(list)
    for question in questions:
        by_split[question.split].append(question)
    found: dict[str, Any] = {}
    for split, asked in by_split.items():
        resampler = Resampler([question.group for question in asked], resamples, seed)
        columns = {arm: [_columns(asked, rows) for rows in each] for arm, each in runs.items()}
        found[split] = {
            arm: {
                "n": len(asked),
                "groups": len({question.group for question in asked}),
                **{
                    measure: _figures(
                        [one[measure] for one in columns[arm]],
                        [one[measure] for one in columns[against]] if arm != against else None,
                        resampler,
                    )
                    for measure in _MEASURES
                },
            }
            for arm in runs
        }
    return found


_MEASURES: dict[str, Callable[[Question, Prediction], float | None]] = {
    "accuracy": lambda question, prediction: prediction.correct,
    "reasoning": lambda question, prediction: reference_scores(question, prediction).reasoning,
    "tokens": lambda question, prediction: prediction.tokens,
}


def _columns(asked: Sequence[Question], rows: Sequence[Prediction]) -> dict[str, Column]:
    found = {row.question_id: row for row in rows if row.prompt == REASONING}
    return {
        measure: [_number(value(question, found[question.id])) if question.id in found else _NONE for question in asked]
        for measure, value in _MEASURES.items()
    }


def _number(value: float | None) -> float:
    return _NONE if value is None else float(value)


def _figures(own: list[Column], other: list[Column] | None, resampler: Resampler) -> dict[str, Any]:
    interval = resampler.mean(_over_seeds(own))
    row: dict[str, Any] = {
        "mean": _round(interval.value), "low": _round(interval.low), "high": _round(interval.high),
        **_spread([_mean(column) for column in own]),
    }  # fmt: skip
    if other is None:
        return row
    gain = resampler.difference(_over_seeds(own), _over_seeds(other))
    pairs = zip(own, other, strict=True)
    each = [_mean([a - b for a, b in zip(mine, theirs, strict=True)]) for mine, theirs in pairs]
    row["gain"] = {
        "difference": _round(gain.value), "low": _round(gain.low), "high": _round(gain.high), **_spread(each),
        "shown": _shown(gain.low, gain.high, each),
    }  # fmt: skip
    return row


def _shown(low: float | None, high: float | None, by_seed: Sequence[float | None]) -> str:
    """`better`, `worse` or `no`."""
    known = [value for value in by_seed if value is not None]
    if low is None or high is None or len(known) < len(by_seed):
        return "no"
    if low > 0 and min(known) > 0:
        return "better"
    return "worse" if high < 0 and max(known) < 0 else "no"


def _over_seeds(columns: list[Column]) -> Column:
    return [sum(values) / len(values) for values in zip(*columns, strict=True)]


def _mean(column: Column) -> float | None:
    known = [value for value in column if not math.isnan(value)]
    return sum(known) / len(known) if known else None


def _spread(by_seed: list[float | None]) -> dict[str, Any]:
    """The values of each seed and their standard deviation (n - 1); None for one seed."""
    known = [value for value in by_seed if value is not None]
    sd = statistics.stdev(known) if len(known) > 1 else None
    return {"by_seed": [_round(value) for value in by_seed], "sd": _round(sd)}


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
