"""LoRA updates as tensors: dW = scale * B A, one pair of factors a module, relative to the base model's weights.

Everything here is exact on dW. Adding or averaging the A's and B's of two adapters is not adding their updates, so a
sum is kept either as a longer LoRA (:func:`concatenate`) or as a matrix cut back to a rank
(:mod:`grandrounds.domain.lowrank`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from grandrounds.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

ROWS = 128  # of a dense update made at once


@dataclass(frozen=True, slots=True, eq=False)
class LoraFactors:
    """One module's update. `a` is [r, in], `b` is [out, r], float32; `scale` is alpha / r (rsLoRA: alpha / sqrt r)."""

    a: Tensor
    b: Tensor
    scale: float = 1.0

    @property
    def rank(self) -> int:
        return self.a.shape[0]

    @property
    def shape(self) -> tuple[int, int]:
        """[out, in] of the dense update."""
        return self.b.shape[0], self.a.shape[1]

    def dense(self) -> Tensor:
        """The update [out, in] in float32. Summed in float64, so that the threads' order of summing leaves no trace;
        by blocks of rows, for a float64 matrix of 3584 x 3584 costs more time to make than to fill.
        """
        import torch

        a, b = self.a.double(), self.b.double()
        dense = torch.empty(self.shape, device=a.device)
        for start in range(0, len(b), ROWS):
            dense[start : start + ROWS] = self.scale * (b[start : start + ROWS] @ a)
        return dense


class LoraUpdate(Mapping[str, LoraFactors]):
    """Module name -> factors, sorted by name, immutable.

    Names are those of the base model (`model.language_model.layers.0.self_attn.q_proj`). Raises UserError, naming
    the module, for factors that do not fit together or hold NaN or infinity, and when there is no module at all.
    """

    def __init__(self, factors: Mapping[str, LoraFactors], name: str = "update") -> None:
        if not factors:
            raise UserError(f"{name}: has no LoRA module")
        for module in sorted(factors):
            _check(f"{name}: module {module}", factors[module])
        self._factors = {module: factors[module] for module in sorted(factors)}

    def __getitem__(self, module: str) -> LoraFactors:
        return self._factors[module]

    def __iter__(self) -> Iterator[str]:
        return iter(self._factors)

    def __len__(self) -> int:
        return len(self._factors)

    @property
    def rank(self) -> int:
        """The largest rank of any module."""
        return max(factors.rank for factors in self._factors.values())


def _check(where: str, factors: LoraFactors) -> None:
    import math

    import torch

    a, b = factors.a, factors.b
    if a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[1] or 0 in (*a.shape, *b.shape):
        raise UserError(f"{where}: A is {[*a.shape]} and B is {[*b.shape]}; wanted are A [r, in] and B [out, r]")
    if not math.isfinite(factors.scale):
        raise UserError(f"{where}: scale is {factors.scale}; a finite number is wanted")
    for letter, tensor in (("A", a), ("B", b)):
        if not torch.isfinite(tensor).all():
            raise UserError(f"{where}: {letter} holds NaN or infinity; train that adapter again")


def all_modules(updates: Mapping[str, LoraUpdate]) -> list[str]:
    """The modules of any of the updates. UserError naming a module that has another shape in another update."""
    if not updates:
        raise UserError("no update was given")
    first: dict[str, str] = {}  # module -> the first update that has it
    for name in sorted(updates):
        for module, factors in updates[name].items():
            other = first.setdefault(module, name)
            if updates[other][module].shape != factors.shape:
                raise UserError(
                    f"module {module}: the update is {list(updates[other][module].shape)} in '{other}' and "
                    f"{list(factors.shape)} in '{name}'; both must be trained from one base model"
                )
    return sorted(first)


def layer_of(module: str) -> int:
    """The layer in a module's name: the number after `layers`, `blocks`, `layer` or `h`; -1 where there is none."""
    match = re.search(r"(?:^|\.)(?:layers|blocks|layer|h)\.(\d+)(?:\.|$)", module)
    return int(match[1]) if match else -1


def concatenate(*updates: LoraUpdate) -> LoraUpdate:
    """The exact sum of updates as one LoRA of scale 1: ranks add up, each scale is folded into its B.

    A module that only some updates have keeps the sum of those. UserError when shapes differ.
    """
    import torch

    total: dict[str, LoraFactors] = {}
    for module in sorted({module for update in updates for module in update}):
        parts = [update[module] for update in updates if module in update]
        if len({part.shape for part in parts}) > 1:
            shapes = " and ".join(str(list(part.shape)) for part in parts)
            raise UserError(f"module {module}: updates of shapes {shapes} cannot be added; is the base model the same?")
        a = torch.cat([part.a.float() for part in parts], dim=0)
        b = torch.cat([part.scale * part.b.float() for part in parts], dim=1)
        total[module] = LoraFactors(a, b, 1.0)
    return LoraUpdate(total)


def pad(factors: LoraFactors, rank: int) -> LoraFactors:
    """The same update with scale 1 (folded into B) and zero rows and columns up to `rank`."""
    import torch

    extra = rank - factors.rank
    if extra < 0:
        raise ValueError(f"cannot pad rank {factors.rank} to {rank}")
    a = torch.nn.functional.pad(factors.a.float(), (0, 0, 0, extra))
    b = torch.nn.functional.pad(factors.scale * factors.b.float(), (0, extra))
    return LoraFactors(a, b, 1.0)
