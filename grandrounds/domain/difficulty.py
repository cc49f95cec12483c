"""Difficulty of a question as a pass count: how many of n rollouts by the filter model are right.

MedVLThinker (2508.02669, code) keeps a question when 1 <= correct <= 7 of 16. It mixed "wrong" with "could not be
read"; here what was extracted and what was correct are counted apart. And it draws all 16 of every question; here a
question may be left as soon as the rest cannot change its decision, which is then the same as that of all n.
"""

import functools
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from grandrounds.params import Bayesian, Exact, Full, Keep
from grandrounds.records import Difficulty, Question

UNREAD = 0.5  # a question whose readable share is below this was not judged on knowledge
PRIOR = 0.5  # Jeffreys' prior on a question's chance of a right answer: Beta(1/2, 1/2)


@dataclass(frozen=True)
class Decider:
    """Decides about one question from its samples so far: how many more to draw, and what the decision is.

    Full: always n. Exact: stops when every outcome of the remaining samples gives the same decision. Bayesian: stops
    also when one decision has a chance of 1 - error or more, the rest being Beta-binomial after what was seen.
    """

    n: int
    keep: Keep
    stopping: Full | Exact | Bayesian

    def reason(self, correct: int) -> str:
        """The decision on a pass count of n."""
        return "too_hard" if correct < self.keep.min else "too_easy" if correct > self.keep.max else "kept"

    def decision(self, drawn: int, correct: int) -> str | None:
        """The decision after `correct` of `drawn` samples, None while it is open."""
        if isinstance(self.stopping, Full) and drawn < self.n:
            return None
        chances = self._chances(drawn, correct)
        best = max(chances, key=lambda reason: chances[reason])
        allowed = self.stopping.error if isinstance(self.stopping, Bayesian) else 0.0
        return best if len(chances) == 1 or 1 - chances[best] <= allowed else None

    def needed(self, drawn: int, correct: int) -> int:
        """Samples to draw next: the fewest after which some outcome could end it, so that none is drawn in vain."""
        return _needed(self, drawn, correct)

    def _chances(self, drawn: int, correct: int) -> dict[str, float]:
        """The chance of each decision that is still possible."""
        from scipy.stats import betabinom

        left = self.n - drawn
        outcomes: dict[str, list[int]] = {}
        for more in range(left + 1):
            outcomes.setdefault(self.reason(correct + more), []).append(more)
        if len(outcomes) == 1 or not isinstance(self.stopping, Bayesian):
            return dict.fromkeys(outcomes, 1 / len(outcomes))
        rest = betabinom(left, PRIOR + correct, PRIOR + drawn - correct)
        return {reason: float(sum(rest.pmf(more))) for reason, more in outcomes.items()}


@functools.lru_cache(maxsize=4096)
def _needed(decider: Decider, drawn: int, correct: int) -> int:
    for more in range(decider.n - drawn + 1):
        if any(_decided(decider, drawn + more, correct + right) for right in range(more + 1)):
            return more
    raise AssertionError("n samples decide")


@functools.lru_cache(maxsize=4096)
def _decided(decider: Decider, drawn: int, correct: int) -> bool:
    return decider.decision(drawn, correct) is not None


def grade(question: Question, drawn: int, extracted: int, correct: int, decider: Decider) -> Difficulty:
    """The row of one question whose decision has been reached."""
    reason = decider.decision(drawn, correct)
    if reason is None:
        raise ValueError(f"question {question.id}: {drawn} of {decider.n} samples leave the decision open")
    return _row(question, decider.n, drawn, extracted, correct, reason)


def refused(question: Question, n: int) -> Difficulty:
    """The row of a question that could not be asked, or was not answered: dropped, and not for its difficulty."""
    return _row(question, n, 0, 0, 0, "refused")


def _row(question: Question, n: int, drawn: int, extracted: int, correct: int, reason: str) -> Difficulty:
    return Difficulty(
        question_id=question.id, specialty=question.specialty, topic=question.topic, kind=question.kind, n=n,
        drawn=drawn, extracted=extracted, correct=correct, kept=reason == "kept", reason=reason,
    )  # fmt: skip


def easy_to_hard(rows: Iterable[Difficulty]) -> list[Difficulty]:
    """Rows from the easiest to the hardest by the expected chance of a right answer (posterior mean).

    A count that stopped early is censored: it is never compared as if it were of n.
    """
    return sorted(rows, key=lambda row: (-(row.correct + PRIOR) / (row.drawn + 2 * PRIOR), row.question_id))


def summary(rows: Sequence[Difficulty], n: int) -> dict:
    """What the stage reports: counts by reason, and the histogram of pass counts, 0 to n, of complete rows only."""
    drawn = max(1, sum(row.drawn for row in rows))
    hard = [row for row in rows if row.reason == "too_hard"]
    return {
        "n": n,
        "samples": sum(row.drawn for row in rows),
        "saved": 1 - sum(row.drawn for row in rows) / max(1, n * len(rows)),
        "extraction_rate": sum(row.extracted for row in rows) / drawn,
        "accuracy": sum(row.correct for row in rows) / drawn,
        "too_hard_unread": sum(row.extracted < UNREAD * row.drawn for row in hard),
        **_part(rows, n),
        "by_specialty": {
            name: _part([row for row in rows if row.specialty == name], n)
            for name in sorted({row.specialty for row in rows})
        },
    }


def _part(rows: Sequence[Difficulty], n: int) -> dict:
    reasons = Counter(row.reason for row in rows)
    counts = Counter(row.correct for row in rows if row.drawn == n)
    return {
        "questions": len(rows),
        **{reason: reasons[reason] for reason in ("kept", "too_easy", "too_hard", "refused")},
        "censored": sum(0 < row.drawn < n for row in rows),
        "histogram": [counts[k] for k in range(n + 1)],
    }


def warnings(rows: Sequence[Difficulty]) -> list[str]:
    """What a person should know before trusting the filter: where form, not knowledge, decided."""
    hard = [row for row in rows if row.reason == "too_hard"]
    unread = [row for row in hard if row.extracted < UNREAD * row.drawn]
    if len(unread) * 5 < len(hard) or not unread:
        return []
    return [
        f"{len(unread)} of {len(hard)} questions that are too hard had fewer than half of their samples readable: "
        "their answers' form, not knowledge, decided; see the prompt's wording, or max_new_tokens"
    ]
