"""From predictions and verdicts to the figures of every arm: `reports/judge/metrics.json`.

    {arm: {split: {n, groups, accuracy, low, high, lenient_accuracy, unparsed_rate, format_rate, mean_tokens,
                   by_specialty, by_modality, by_kind, by_topic: {part: {n, accuracy}},
                   reasoning, reasoning_low, reasoning_high, reasoning_n, judges: {judge: {prediction, reasoning, ...}},
                   delta_<baseline>, prompt_gain: {difference, low, high}}}}

Fractions of 1. The reasoning prompt's figures stand under the split's name, another prompt's under `<split>_<prompt>`.
Accuracy is the strict verifier's; intervals are 95 %, by bootstrap over groups; differences are paired by question and
under the same prompt. A missing score is left out of its mean, never counted as 0; a figure that nothing gives is None.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from grandrounds.domain.statistics import Interval, Resampler
from grandrounds.params import Judge
from grandrounds.records import Prediction, Question, Verdict

REASONING = "reasoning"
_NONE = float("nan")

Cell = tuple[str, str, str]  # arm, split, prompt


def summarise(
    questions: Sequence[Question],
    predictions: Sequence[Prediction],
    verdicts: Sequence[Verdict],
    params: Judge,
    seed: int,
) -> dict[str, Any]:
    """The figures of every arm, split and prompt. `reasoning` is the first judge's; every judge's stands in `judges`.

    A question that an arm did not answer is left out of that arm's figures: refuse such files before.
    """
    by_split: dict[str, list[Question]] = defaultdict(list)
    for question in questions:
        by_split[question.split].append(question)
    answered: dict[Cell, dict[str, Prediction]] = defaultdict(dict)
    for prediction in predictions:
        answered[prediction.arm, prediction.split, prediction.prompt][prediction.question_id] = prediction
    judged: dict[tuple[str, str, str, str], dict[str, Verdict]] = defaultdict(dict)
    for verdict in verdicts:
        judged[verdict.arm, verdict.split, verdict.prompt, verdict.judge][verdict.question_id] = verdict

    metrics: dict[str, Any] = {arm: {} for arm in dict.fromkeys(arm for arm, _, _ in answered)}
    for split, asked in by_split.items():
        resampler = Resampler([question.group for question in asked], params.resamples, seed)
        right = {
            cell: _column(asked, found, lambda prediction: prediction.correct)
            for cell, found in answered.items()
            if cell[1] == split
        }
        for (arm, _, prompt), correct in right.items():
            cell = (arm, split, prompt)
            row = _figures(asked, answered[cell], correct, resampler)
            row |= _judged(asked, {name: judged[(*cell, name)] for name in params.judges}, resampler)
            for baseline in params.baselines:
                if (baseline, split, prompt) in right:
                    row[f"delta_{baseline}"] = _gain(resampler.difference(correct, right[baseline, split, prompt]))
            if prompt == REASONING and (arm, split, "no_reasoning") in right:
                row["prompt_gain"] = _gain(resampler.difference(correct, right[arm, split, "no_reasoning"]))
            metrics[arm][split if prompt == REASONING else f"{split}_{prompt}"] = row
    return metrics


def _figures(
    asked: Sequence[Question], found: dict[str, Prediction], correct: list[float], resampler: Resampler
) -> dict[str, Any]:
    accuracy = resampler.mean(correct)
    present = [question for question, value in zip(asked, correct, strict=True) if not math.isnan(value)]
    return {
        "n": len(present),
        "groups": len({question.group for question in present}),
        "accuracy": _round(accuracy.value),
        "low": _round(accuracy.low),
        "high": _round(accuracy.high),
        "lenient_accuracy": _mean(found[q.id].correct_lenient for q in present),
        "unparsed_rate": _mean(not found[q.id].extracted for q in present),
        "format_rate": _mean(found[q.id].format_ok for q in present),
        "mean_tokens": _mean(found[q.id].tokens for q in present),
        **{
            f"by_{name}": _by(present, found, name)
            for name in ("specialty", "modality", "kind", "topic")
        },
    }  # fmt: skip


def _by(present: Sequence[Question], found: dict[str, Prediction], name: str) -> dict[str, dict[str, Any]]:
    parts: dict[str, list[bool]] = defaultdict(list)
    for question in present:
        parts[getattr(question, name)].append(found[question.id].correct)
    return {part: {"n": len(values), "accuracy": _mean(values)} for part, values in sorted(parts.items())}


def _judged(asked: Sequence[Question], found: dict[str, dict[str, Verdict]], resampler: Resampler) -> dict[str, Any]:
    """The first judge's reasoning score with its interval, and every judge's two means with how many were unscored."""
    judges = {}
    for name, verdicts in found.items():
        final = [v.prediction_score for v in verdicts.values() if v.prediction_score is not None]
        reasoned = [v.reasoning_score for v in verdicts.values() if v.reasoning_score is not None]
        judges[name] = {
            "prediction": _mean(final),
            "reasoning": _mean(reasoned),
            "reasoning_n": len(reasoned),
            "unscored": len(verdicts) - len(final),
        }
    scores = _column(asked, next(iter(found.values()), {}), lambda verdict: verdict.reasoning_score)
    reasoning = resampler.mean(scores)
    return {
        "reasoning": _round(reasoning.value),
        "reasoning_low": _round(reasoning.low),
        "reasoning_high": _round(reasoning.high),
        "reasoning_n": sum(not math.isnan(score) for score in scores),
        "judges": judges,
    }


def _column(asked: Sequence[Question], found: dict[str, Any], value: Callable[[Any], float | None]) -> list[float]:
    """One value a question, in the questions' order; NaN where there is no row or no score."""
    values = (value(found[question.id]) if question.id in found else None for question in asked)
    return [_NONE if each is None else float(each) for each in values]


def _gain(interval: Interval) -> dict[str, float | None]:
    return {"difference": _round(interval.value), "low": _round(interval.low), "high": _round(interval.high)}


def _mean(values: Iterable[float]) -> float | None:
    values = list(values)
    return _round(sum(values) / len(values)) if values else None


def _round(value: float | None) -> float | None:
    """Six places: below that are only rounding errors, which would show as differences between machines."""
    return None if value is None or math.isnan(value) else round(float(value), 6)
