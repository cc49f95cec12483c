"""Several samples of one question: pass@k, and the answer that most of them give."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from math import comb

from grandrounds.domain.answers import matches, normalise
from grandrounds.records import Prediction, Question

RIGHT = "\x00right"  # no normalised answer can be it


def pass_at(k: int, n: int, correct: int) -> float:
    """How probable it is that k of n samples, drawn without replacement, hold a right one.

    Unbiased (Chen et al. 2021, arXiv:2107.03374, eq. 1). ValueError unless 1 <= k <= n and 0 <= correct <= n.
    """
    if not (1 <= k <= n and 0 <= correct <= n):
        raise ValueError(f"k = {k} and {correct} right of n = {n} samples")
    return 1.0 - comb(n - correct, k) / comb(n, k)


def majority(question: Question, samples: Sequence[Prediction]) -> float:
    """Whether the most frequent answer is right, in [0, 1]; of answers that tie, the share that is.

    Readings of one option ("B", "B. liver", "liver") are one answer. A sample without an answer has no vote; without
    any vote the question is wrong, as it is where a single answer cannot be read.
    """
    votes = Counter(_vote(question, sample) for sample in samples if sample.extracted)
    if not votes:
        return 0.0
    most = max(votes.values())
    leading = [answer for answer, count in votes.items() if count == most]
    return leading.count(RIGHT) / len(leading)


def _vote(question: Question, sample: Prediction) -> str:
    if sample.correct:
        return RIGHT
    for i, option in enumerate(question.options):
        label = chr(ord("A") + i) if question.label else ""
        if option != question.answer and matches(
            replace(question, answer=option, label=label, synonyms=[]), sample.answer
        ):
            return f"option {i}"
    return normalise(sample.answer) or sample.answer
