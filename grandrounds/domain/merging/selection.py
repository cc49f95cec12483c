"""Which merge to take of several that were scored: the best mean that silently loses no specialist's gain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

Scores = Mapping[str, float]  # specialty -> accuracy, in [0, 1]


@dataclass(frozen=True, slots=True)
class Trial:
    """One merge that was scored. Number 0 is the item's own method, which any search has to beat."""

    number: int
    method: dict[str, Any]
    scores: dict[str, float]

    @property
    def macro(self) -> float:
        return fmean(self.scores.values())


@dataclass(frozen=True, slots=True)
class Choice:
    trial: Trial
    why: str
    lost: list[str]  # specialties whose gain it does not keep: to be told, never silent


def kept(scores: Scores, base: Scores, own: Scores) -> dict[str, float]:
    """Of each specialist's gain over the base at home, the share that a merge holds; 1 where there was no gain.

    `own`: specialty -> accuracy there of the specialist for it.
    """
    gains = {name: own[name] - base[name] for name in own}
    return {name: (scores[name] - base[name]) / gain if gain > 0 else 1.0 for name, gain in gains.items()}


def pick(trials: Sequence[Trial], base: Scores, own: Scores, keep: float) -> Choice:
    """The highest mean over specialties among trials that keep the share `keep` of every specialist's gain.

    Where none does, the trial whose worst-kept gain is kept best, with the specialties that it loses. Equal ones: the
    first. ValueError when there is no trial.
    """
    shares = {trial.number: min(kept(trial.scores, base, own).values(), default=1.0) for trial in trials}
    fair = [trial for trial in trials if shares[trial.number] >= keep]
    if fair:
        best = max(fair, key=lambda trial: (trial.macro, -trial.number))
        return Choice(best, f"highest mean of {len(fair)} trials that keep {keep:.0%} of every specialist's gain", [])
    best = max(trials, key=lambda trial: (shares[trial.number], trial.macro, -trial.number))
    lost = [name for name, share in kept(best.scores, base, own).items() if share < keep]
    return Choice(best, f"no trial keeps {keep:.0%} of every specialist's gain; this one loses least", lost)


def frontier(trials: Sequence[Trial]) -> list[Trial]:
    """The trials that no other beats in one specialty without losing in another (Pareto)."""
    return [
        one
        for one in trials
        if not any(
            all(other.scores[name] >= score for name, score in one.scores.items()) and other.scores != one.scores
            for other in trials
        )
    ]
