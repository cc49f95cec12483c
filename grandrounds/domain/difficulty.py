"""Difficulty of a question as a pass count: how many of n rollouts by the filter model are right.

MedVLThinker (2508.02669, code) keeps a question when 1 <= correct <= 7 of 16. It mixed "wrong" with "could not be
read"; here what was extracted and what was correct are counted apart.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

from grandrounds.params import Keep
from grandrounds.records import Difficulty, Question


def grade(question: Question, extracted: int, correct: int, n: int, keep: Keep) -> Difficulty:
    """The decision on one question."""
    reason = "too_hard" if correct < keep.min else "too_easy" if correct > keep.max else "kept"
    return Difficulty(
        question_id=question.id, specialty=question.specialty, topic=question.topic, kind=question.kind, n=n,
        extracted=extracted, correct=correct, kept=reason == "kept", reason=reason,
    )  # fmt: skip


def summary(rows: Sequence[Difficulty], n: int) -> dict:
    """What the stage reports: counts by reason and specialty, and the histogram of pass counts, 0 to n."""
    counts = Counter(row.correct for row in rows)
    total = max(1, len(rows) * n)
    return {
        "n": n,
        "questions": len(rows),
        **_reasons(rows),
        "extraction_rate": sum(row.extracted for row in rows) / total,
        "accuracy": sum(row.correct for row in rows) / total,
        "histogram": [counts[k] for k in range(n + 1)],
        "by_specialty": {
            name: {"questions": len(part), **_reasons(part)}
            for name in sorted({row.specialty for row in rows})
            if (part := [row for row in rows if row.specialty == name])
        },
    }


def _reasons(rows: Iterable[Difficulty]) -> dict[str, int]:
    counts = Counter(row.reason for row in rows)
    return {reason: counts[reason] for reason in ("kept", "too_easy", "too_hard")}
