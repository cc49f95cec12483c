"""Merging of LoRA updates into one, on the exact updates dW = scale * B A, module by module.

A method is a row of :data:`grandrounds.domain.merging.methods.METHODS`. What it gives for a module is cut to a LoRA of
the asked rank or energy (:mod:`grandrounds.domain.lowrank`), and what that costs is reported.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from grandrounds.domain.adapters import LoraFactors, LoraUpdate, all_modules
from grandrounds.domain.lowrank import compress
from grandrounds.domain.merging.inputs import gather
from grandrounds.domain.merging.methods import METHODS
from grandrounds.errors import UserError, unknown
from grandrounds.params import Linear, MergeMethod, MergeRule
from grandrounds.records import MergeReport

if TYPE_CHECKING:
    from torch import Tensor

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class MergedUpdate:
    """The merged update, and one row for each module, by name."""

    update: LoraUpdate
    report: list[MergeReport]


def merge(
    updates: Mapping[str, LoraUpdate],
    weights: Mapping[str, float],
    method: MergeMethod,
    rank: int | None = None,
    *,
    energy: float | None = None,
    rules: Sequence[MergeRule] = (),
    workers: int = 1,
) -> MergedUpdate:
    """Merge named updates of one base model into one LoRA of at most `rank` a module, or of the smallest rank that
    keeps the share `energy` of the squared Frobenius norm; with neither, nothing is cut.

    Updates are taken in the order of their names, so the order of the mapping changes no bit, and every module is
    computed on one thread, so the number of `workers` does not either. `weights` may leave names out: those weigh 1.
    UserError for an unknown or infinite weight, for no update at all, for one that is zero everywhere, and for a
    module that has another shape in another update.
    """
    check(updates, weights, rules)

    def one(module: str) -> tuple[LoraFactors, MergeReport]:
        cut = compress(_merged(module, updates, weights, method, rules), rank, energy)
        return cut.factors, MergeReport(module, cut.factors.rank, cut.norm, cut.error)

    modules = all_modules(updates)
    done = _on_single_threads(one, modules, workers)
    merged = {module: factors for module, (factors, _) in zip(modules, done, strict=True)}
    return MergedUpdate(LoraUpdate(merged, "merged update"), [row for _, row in done])


def append(
    updates: Mapping[str, LoraUpdate], weights: Mapping[str, float], method: Linear, rules: Sequence[MergeRule] = ()
) -> LoraUpdate:
    """The linear merge as one longer LoRA: PEFT's `cat`, exact and not rewritten in another basis."""
    check(updates, weights, rules)
    found = {module: _merged(module, updates, weights, method, rules) for module in all_modules(updates)}
    return LoraUpdate(
        {module: each for module, each in found.items() if isinstance(each, LoraFactors)}, "merged update"
    )


def merge_exactly(
    module: str,
    updates: Mapping[str, LoraUpdate],
    weights: Mapping[str, float],
    method: MergeMethod,
    rules: Sequence[MergeRule] = (),
) -> Tensor:
    """One module's merged update [out, in], float32, not cut to any rank."""
    [found] = _on_single_threads(lambda each: _merged(each, updates, weights, method, rules), [module], 1)
    return found.dense() if isinstance(found, LoraFactors) else found


def check(updates: Mapping[str, LoraUpdate], weights: Mapping[str, float], rules: Sequence[MergeRule]) -> None:
    """Raise UserError for what :func:`merge` would refuse."""
    all_modules(updates)
    for name, update in updates.items():
        if not any(bool(each.a.any()) and bool(each.b.any()) for each in update.values()):
            raise UserError(f"update '{name}' is zero in every module: it was never trained; train it or leave it out")
    for name, weight in weights.items():
        if name not in updates:
            raise unknown("update in the merge weights", name, updates)
        if not math.isfinite(weight):
            raise UserError(f"merge weight of '{name}' is {weight}; a finite number is wanted")
    for rule in rules:
        if rule.update is not None and rule.update not in updates:
            raise unknown("update in the merge rules", rule.update, updates)


def _merged(
    module: str,
    updates: Mapping[str, LoraUpdate],
    weights: Mapping[str, float],
    method: MergeMethod,
    rules: Sequence[MergeRule],
) -> Tensor | LoraFactors:
    given = gather(module, updates, weights, getattr(method, "density", 1.0), rules)
    found = METHODS[method.type].function(given, method)
    return replace(found, scale=method.scale) if isinstance(found, LoraFactors) else found.mul_(method.scale)


def _on_single_threads(function: Callable[[str], Result], modules: Sequence[str], workers: int) -> list[Result]:
    """In the order of modules. LAPACK's last bits depend on how many threads it has, so each worker has one."""
    import torch

    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        return list(pool.map(function, modules))
