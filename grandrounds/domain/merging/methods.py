"""All methods in one table: how it is called, what it is, where it comes from, and what it gives in the limit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from grandrounds.domain.adapters import LoraFactors
from grandrounds.domain.merging.elected import knots, ties
from grandrounds.domain.merging.inputs import Inputs
from grandrounds.domain.merging.regions import conflict_aware, ram
from grandrounds.domain.merging.sums import dare_linear, dare_ties, linear

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Method:
    """`function` takes one module's inputs and the method's own parameters. What it returns is dense [out, in], or
    factors where the merged update keeps the low rank; lambda is applied to it afterwards, for all methods alike.
    """

    paper: str
    function: Callable[[Inputs, Any], Tensor | LoraFactors]
    degenerate: str


METHODS: dict[str, Method] = {
    "linear": Method(
        "Task arithmetic, arXiv 2212.04089",
        lambda given, _: linear(given),
        "one update: itself, times its weight; equal updates: times the sum of weights",
    ),
    "ties": Method(
        "TIES, arXiv 2306.01708",
        lambda given, _: ties(given.dense(), given.weights, given.densities),
        "one update: its trimmed self; density 1 and equal signs: the weighted mean; a sum of exactly 0: 0",
    ),
    "dare_linear": Method(
        "DARE, arXiv 2311.03099",
        lambda given, own: dare_linear(given.dense(), given.weights, given.densities, given.seeds(own.seed)),
        "density 1: linear",
    ),
    "dare_ties": Method(
        "DARE with TIES' election, arXiv 2311.03099",
        lambda given, own: dare_ties(given.dense(), given.weights, given.densities, given.seeds(own.seed)),
        "density 1: TIES at density 1",
    ),
    "knots": Method(
        "KnOTS, arXiv 2410.19735",
        lambda given, _: knots(given),
        "one update at density 1: itself; never more than the sum of ranks",
    ),
    "ram": Method(
        "RAM+, arXiv 2601.13572",
        lambda given, own: ram(given.dense(), given.weights, given.densities, own.rescale, own.limit),
        "one update: its trimmed self, times its weight; density 1: the weighted mean",
    ),
    "conflict_aware": Method(
        "ours, docs/merging.md; own, shared and contested entries after RAM, arXiv 2601.13572",
        lambda given, own: conflict_aware(given.dense(), given.weights, given.densities, own.agreement, own.caution)[0],
        "no contested entry and agreement 0: TIES; caution 0 and agreement 0: TIES; one update: its trimmed self",
    ),
}
