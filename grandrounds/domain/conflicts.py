"""How far two updates disagree, module by module: what a merge has to reconcile.

Two seeds of one specialty (a specialist and its twin) give the null: the disagreement that training noise alone makes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import combinations

from grandrounds.domain.adapters import LoraFactors, LoraUpdate, same_modules
from grandrounds.records import Conflict


def compare(first: str, one: LoraUpdate, second: str, two: LoraUpdate, null: bool = False) -> list[Conflict]:
    """One row a module for the pair of updates named `first` and `second`; `null` marks two seeds of one specialty.

    UserError, naming the module, when the two do not update the same modules in the same shapes.
    """
    modules = same_modules({first: one, second: two})
    return [_conflict(module, first, one[module], second, two[module], null) for module in modules]


def compare_all(updates: Mapping[str, LoraUpdate], twin: tuple[str, str, LoraUpdate] | None = None) -> list[Conflict]:
    """Every pair of updates, in the order of names, then the null: `twin` is (specialist, name of its twin, update)."""
    rows = [row for a, b in combinations(sorted(updates), 2) for row in compare(a, updates[a], b, updates[b])]
    if twin is not None:
        of, name, update = twin
        rows += compare(of, updates[of], name, update, null=True)
    return rows


def layer_of(module: str) -> int:
    """The layer in a module's name: the number after `layers`, `blocks`, `layer` or `h`; -1 where there is none."""
    match = re.search(r"(?:^|\.)(?:layers|blocks|layer|h)\.(\d+)(?:\.|$)", module)
    return int(match[1]) if match else -1


def _conflict(module: str, first: str, one: LoraFactors, second: str, two: LoraFactors, null: bool) -> Conflict:
    """Sign disagreement is weighted by sqrt |a b|, so that entries near zero in either count little. A zero update
    disagrees with nothing: disagreement and cosine are 0 then."""
    a, b = one.dense().double(), two.dense().double()
    norm_a, norm_b = float(a.norm()), float(b.norm())
    product = a * b
    weight = product.abs().sqrt()
    total = float(weight.sum())
    both = norm_a * norm_b
    return Conflict(
        module=module,
        layer=layer_of(module),
        first=first,
        second=second,
        null=null,
        sign_disagreement=min(1.0, float(weight[product < 0].sum()) / total) if total > 0 else 0.0,
        cosine=max(-1.0, min(1.0, float(product.sum()) / both)) if both > 0 else 0.0,
        first_norm=norm_a,
        second_norm=norm_b,
    )
