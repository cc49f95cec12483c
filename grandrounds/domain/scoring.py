"""From predictions and verdicts to the figures of every arm: `reports/judge/metrics.json`.

    {arm: {split: {n, groups, accuracy, low, high, lenient_accuracy, unparsed_rate, format_rate, mean_tokens,
                   by_specialty, by_modality, by_kind, by_topic: {part: {n, accuracy}},
                   reasoning, reasoning_low, reasoning_high, reasoning_n, judges: {judge: {prediction, reasoning, ...}},
                   bertscore, bertscore_low, bertscore_high, bertscore_n,
                   delta_<baseline>: {difference, low, high, wins, losses, p, p_holm, detectable, ruling},
                   prompt_gain, image_gain: {difference, low, high}},
           <split>_sampled: {n, groups, samples, accuracy, low, high, pass_at: {k: ...}, majority, majority_low, ...},
           macro: {sets, accuracy, low, high, lenient_accuracy, unparsed_rate}}}

Fractions of 1. The reasoning prompt's figures stand under the split's name, another's under `<split>_<prompt>`:
`no_reasoning`; `text_only`, the reasoning prompt with the picture withheld; `sampled`, the reasoning prompt several
times. Accuracy is the strict verifier's; intervals are 95 %, by bootstrap over groups; differences are paired by
question and under the same prompt, their p-values corrected for the number of arms (Holm). `macro` is the unweighted
mean over the benchmarks. A missing score is left out of its mean, never counted as 0; what nothing gives is None.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from grandrounds.domain import sampling
from grandrounds.domain.statistics import Interval, Resampler, holm, macro, ruling
from grandrounds.params import Judge
from grandrounds.records import SPLITS, Prediction, Question, Verdict

REASONING, NO_REASONING, TEXT_ONLY, SAMPLED = "reasoning", "no_reasoning", "text_only", "sampled"
_NONE = float("nan")

Cell = tuple[str, str, str]  # arm, split, prompt
Graded = Mapping[tuple[str, str, str, str], float]  # arm, split, prompt, question -> BERTScore of an open-ended answer


def summarise(
    questions: Sequence[Question],
    predictions: Sequence[Prediction],
    verdicts: Sequence[Verdict],
    params: Judge,
    seed: int,
    graded: Graded | None = None,
) -> dict[str, Any]:
    """The figures of every arm, split and prompt. `reasoning` is the first judge's; every judge's stands in `judges`.

    A question that an arm did not answer is left out of that arm's figures: refuse such files before.
    """
    by_split: dict[str, list[Question]] = defaultdict(list)
    for question in questions:
        by_split[question.split].append(question)
    answered: dict[Cell, dict[str, Prediction]] = defaultdict(dict)
    sampled: dict[tuple[str, str], dict[str, list[Prediction]]] = defaultdict(lambda: defaultdict(list))
    for each in predictions:
        if each.prompt == SAMPLED:
            sampled[each.arm, each.split][each.question_id].append(each)
        else:
            answered[each.arm, each.split, each.prompt][each.question_id] = each
    judged: dict[tuple[str, str, str, str], dict[str, Verdict]] = defaultdict(dict)
    for verdict in verdicts:
        judged[verdict.arm, verdict.split, verdict.prompt, verdict.judge][verdict.question_id] = verdict

    metrics: dict[str, Any] = {arm: {} for arm in dict.fromkeys(prediction.arm for prediction in predictions)}
    for split, asked in by_split.items():
        resampler = Resampler([question.group for question in asked], params.resamples, seed)
        right = {
            cell: _column(asked, found, lambda prediction: prediction.correct)
            for cell, found in answered.items()
            if cell[1] == split
        }
        against = {baseline: _deltas(right, baseline, resampler) for baseline in params.baselines}
        for cell, correct in right.items():
            arm, _, prompt = cell
            row = _figures(asked, answered[cell], correct, resampler)
            row |= _judged(asked, {name: judged[(*cell, name)] for name in params.judges}, resampler)
            if graded and any((*cell, question.id) in graded for question in asked):
                row |= _graded(asked, cell, graded, resampler)
            row |= {f"delta_{baseline}": found[cell] for baseline, found in against.items() if cell in found}
            for gain, without in (("prompt_gain", NO_REASONING), ("image_gain", TEXT_ONLY)):
                if prompt == REASONING and (arm, split, without) in right:
                    row[gain] = _gain(resampler.difference(correct, right[arm, split, without]))
            metrics[arm][split if prompt == REASONING else f"{split}_{prompt}"] = row
        for (arm, of), samples in sampled.items():
            if of == split:
                metrics[arm][f"{split}_{SAMPLED}"] = _sampled(asked, samples, resampler)
    benchmarks = {split: asked for split, asked in by_split.items() if split not in SPLITS}
    if benchmarks:
        for arm, found in metrics.items():
            found["macro"] = _macro(arm, found, benchmarks, answered, params.resamples, seed)
    return metrics


def _deltas(right: Mapping[Cell, list[float]], baseline: str, resampler: Resampler) -> dict[Cell, dict[str, Any]]:
    """Every arm less the baseline, under the same prompt; the tests of one split and prompt are corrected together."""
    found: dict[Cell, dict[str, Any]] = {}
    for prompt in dict.fromkeys(cell[2] for cell in right):
        pairs = {cell: (baseline, cell[1], prompt) for cell in right if cell[2] == prompt}
        pairs = {cell: other for cell, other in pairs.items() if other in right}
        tests = {cell: resampler.paired(right[cell], right[other]) for cell, other in pairs.items()}
        corrected = holm({cell[0]: t.p for cell, t in tests.items() if cell[0] != baseline and t.p is not None})
        for cell, test in tests.items():
            interval, p_holm = resampler.difference(right[cell], right[pairs[cell]]), corrected.get(cell[0])
            found[cell] = _gain(interval)
            if cell[0] != baseline:
                found[cell] |= {
                    "wins": test.wins,
                    "losses": test.losses,
                    "p": _round(test.p),
                    "p_holm": _round(p_holm),
                    "detectable": _round(test.detectable),
                    "ruling": ruling(interval, test.clusters, p_holm),
                }
    return found


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


def _graded(asked: Sequence[Question], cell: Cell, graded: Graded, resampler: Resampler) -> dict[str, Any]:
    """BERTScore over the open-ended questions whose answer could be read."""
    scores = [graded.get((*cell, question.id), _NONE) for question in asked]
    found = resampler.mean(scores)
    known = sum(not math.isnan(score) for score in scores)
    return {**_named("bertscore", found), "bertscore_n": known}


def _sampled(
    asked: Sequence[Question], samples: Mapping[str, list[Prediction]], resampler: Resampler
) -> dict[str, Any]:
    """pass@k for k = 1, 2, 4, ... and n; the majority's accuracy. Accuracy is pass@1: the mean share that is right."""
    found = [samples.get(question.id, []) for question in asked]
    n = min((len(each) for each in found if each), default=0)
    counts = [(len(each), sum(sample.correct for sample in each)) for each in found]

    def at(k: int) -> Interval:
        return resampler.mean([sampling.pass_at(k, total, right) if total else _NONE for total, right in counts])

    votes = [sampling.majority(q, each) if each else _NONE for q, each in zip(asked, found, strict=True)]
    present = [question for question, each in zip(asked, found, strict=True) if each]
    ks = sorted({2**i for i in range(n.bit_length()) if 2**i <= n} | ({n} if n else set()))
    first = at(1) if n else Interval(None, None, None)
    return {
        "n": len(present),
        "groups": len({question.group for question in present}),
        "samples": n,
        "accuracy": _round(first.value),
        "low": _round(first.low),
        "high": _round(first.high),
        "unparsed_rate": _mean(not sample.extracted for each in found for sample in each),
        "pass_at": {str(k): _round(at(k).value) for k in ks},
        **_named("majority", resampler.mean(votes)),
    }


def _macro(
    arm: str,
    figures: Mapping[str, Mapping[str, Any]],
    benchmarks: Mapping[str, Sequence[Question]],
    answered: Mapping[Cell, dict[str, Prediction]],
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """The unweighted mean over benchmarks, as the papers average; None while one of them is not answered."""
    sets = []
    for i, (split, asked) in enumerate(benchmarks.items(), 1):
        column = _column(asked, answered.get((arm, split, REASONING), {}), lambda prediction: prediction.correct)
        sets.append((Resampler([question.group for question in asked], resamples, seed + i), column))
    accuracy = macro(sets)

    def over(key: str) -> float | None:
        known = [figures.get(split, {}).get(key) for split in benchmarks]
        return _mean(value for value in known if value is not None) if None not in known else None

    return {
        "sets": len(sets),
        "accuracy": _round(accuracy.value),
        "low": _round(accuracy.low),
        "high": _round(accuracy.high),
        "lenient_accuracy": over("lenient_accuracy"),
        "unparsed_rate": over("unparsed_rate"),
    }


def _named(name: str, found: Interval) -> dict[str, float | None]:
    return {name: _round(found.value), f"{name}_low": _round(found.low), f"{name}_high": _round(found.high)}


def _column(asked: Sequence[Question], found: dict[str, Any], value: Callable[[Any], float | None]) -> list[float]:
    """One value a question, in the questions' order; NaN where there is no row or no score."""
    values = (value(found[question.id]) if question.id in found else None for question in asked)
    return [_NONE if each is None else float(each) for each in values]


def _gain(interval: Interval) -> dict[str, Any]:
    return {"difference": _round(interval.value), "low": _round(interval.low), "high": _round(interval.high)}


def _mean(values: Iterable[float]) -> float | None:
    values = list(values)
    return _round(sum(values) / len(values)) if values else None


def _round(value: float | None) -> float | None:
    """Six places: below that are only rounding errors, which would show as differences between machines."""
    return None if value is None or math.isnan(value) else round(float(value), 6)
