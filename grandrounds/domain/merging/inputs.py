"""What a method is given: one module of all updates, and weight and density of each, after the rules of params.yaml."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from hashlib import blake2b
from typing import TYPE_CHECKING

from grandrounds.domain.adapters import LoraFactors, LoraUpdate
from grandrounds.params import MergeRule

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Inputs:
    """One module of N updates, in the order of their names."""

    module: str
    names: tuple[str, ...]
    factors: tuple[LoraFactors, ...]
    weights: Tensor  # [N]
    densities: Tensor  # [N], in (0, 1]

    def dense(self) -> Tensor:
        """The exact updates [N, out, in], float32."""
        import torch

        return torch.stack([factors.dense() for factors in self.factors])

    def seeds(self, seed: int) -> list[int]:
        """One seed an update for random drops: of its name and the module, so that no order of updates matters."""
        return [_seed(str(seed), name, self.module) for name in self.names]


def gather(
    module: str,
    updates: Mapping[str, LoraUpdate],
    weights: Mapping[str, float],
    density: float,
    rules: Sequence[MergeRule],
) -> Inputs:
    """The module of those updates that have it, each under its weight, density and scale; later rules win.

    An update without the module is zero there and takes no part. A rule's scale multiplies the update itself: all
    methods are homogeneous, so a scale on all updates of a module is the lambda of that module.
    """
    import torch

    names = sorted(name for name in updates if module in updates[name])
    factors, given, densities = [], [], []
    for name in names:
        said = {"weight": weights.get(name, 1.0), "density": density, "scale": 1.0}
        for rule in rules:
            if fnmatchcase(module, rule.modules) and rule.update in (None, name):
                said |= {key: value for key in said if (value := getattr(rule, key)) is not None}
        one = updates[name][module]
        factors.append(replace(one, scale=one.scale * said["scale"]))
        given.append(float(said["weight"]))
        densities.append(float(said["density"]))
    kinds = {"dtype": torch.float32}
    return Inputs(module, tuple(names), tuple(factors), torch.tensor(given, **kinds), torch.tensor(densities, **kinds))


def _seed(*parts: str) -> int:
    return int.from_bytes(blake2b("\x1f".join(parts).encode(), digest_size=8).digest(), "big") >> 1
