"""A merged update cut to a LoRA: of a rank, or of the smallest rank that keeps a share of its energy.

Three ways to the same thing, the truncated SVD (Eckart-Young). Factors are never made dense: with B = Q R and
A' = P T the singular values of B A are those of the small core R T'. A dense update is decomposed whole where that is
cheap, and else by a randomised sketch with a fixed seed (Halko, Martinsson and Tropp, 0909.4061).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from grandrounds.domain.adapters import LoraFactors

if TYPE_CHECKING:
    from torch import Tensor

WHOLE = 256  # up to this many rows or columns an SVD of the whole is as fast
OVERSAMPLE, PASSES, SEED = 32, 2, 20090414
ROWS = 256


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    factors: LoraFactors  # scale 1
    norm: float  # Frobenius norm of the update before the cut
    error: float  # of the cut, relative to that norm


def compress(update: Tensor | LoraFactors, rank: int | None = None, energy: float | None = None) -> Cut:
    """The best LoRA for an update (dense [out, in], or factors), with what it costs. Neither bound: nothing is cut.

    Rounded to float32 at the end. Each pair of singular vectors is fixed up to a common sign: the left one's largest
    entry is positive. Directions below float32's resolution are dropped. A zero update gives zero factors, error 0.
    """
    if isinstance(update, LoraFactors):
        return _core(update, rank, energy)
    smaller = min(update.shape)
    size = rank or (64 if energy else smaller)
    while smaller > WHOLE and 4 * (size + OVERSAMPLE) < smaller:
        left, values, right = _sketch(update, size + OVERSAMPLE)
        if energy is None or rank is not None or _reaches(values[:size], energy, update):
            return _cut(update, left[:, :size], values[:size], right[:size], energy)
        size *= 2  # the sketch does not hold the energy that is asked for
    left, values, right = _whole(update)
    size = rank or smaller
    return _cut(update, left[:, :size], values[:size], right[:size], energy)


def _core(update: LoraFactors, rank: int | None, energy: float | None) -> Cut:
    import torch

    left, upper = torch.linalg.qr(update.scale * update.b.double())
    right, lower = torch.linalg.qr(update.a.double().T)
    inner, values, outer = torch.linalg.svd(upper @ lower.T, full_matrices=False)
    norm = float(values.norm())
    size = min(rank or len(values), len(values))
    size = _enough(values[:size], energy, norm)
    factors = _balanced(left @ inner[:, :size], values[:size], outer[:size] @ right.T)
    return Cut(factors, norm, float(values[size:].norm()) / norm if norm > 0 else 0.0)


def _whole(update: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    import torch

    return torch.linalg.svd(update.double(), full_matrices=False)


def _sketch(update: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Nearly the largest `size` singular triplets, float64, from products in float32.

    Two passes of subspace iteration: what TIES leaves has a flat spectrum, of which one look sees little.
    """
    import torch

    probe = torch.randn(update.shape[1], size, generator=torch.Generator().manual_seed(SEED))
    basis = torch.linalg.qr(update @ probe)[0]
    for _ in range(PASSES):
        basis = torch.linalg.qr(update @ torch.linalg.qr(update.T @ basis)[0])[0]
    turn, values, right = torch.linalg.svd((basis.T @ update).double(), full_matrices=False)
    return basis.double() @ turn, values, right


def _cut(update: Tensor, left: Tensor, values: Tensor, right: Tensor, energy: float | None) -> Cut:
    norm = float(update.double().norm())
    size = _enough(values, energy, norm)
    factors = _balanced(left[:, :size], values[:size], right[:size])
    return Cut(factors, norm, _residual(update, factors) / norm if norm > 0 else 0.0)


def _balanced(left: Tensor, values: Tensor, right: Tensor) -> LoraFactors:
    """left [out, r], values [r], right [r, in] -> factors of equal norms, whose signs are fixed."""
    import torch

    values = torch.where(values > values[0] * torch.finfo(torch.float32).eps, values, torch.zeros_like(values))
    largest = left.gather(0, left.abs().argmax(dim=0, keepdim=True))  # [1, r]
    sign = torch.where(largest < 0, -1.0, 1.0).to(left.dtype)
    half = values.sqrt()
    return LoraFactors((sign.T * right * half.unsqueeze(1)).float(), (sign * left * half).float(), 1.0)


def _residual(update: Tensor, factors: LoraFactors) -> float:
    """Frobenius norm of what the factors miss, by blocks of rows: no second dense matrix."""
    total, a = 0.0, factors.a.double()
    for start in range(0, update.shape[0], ROWS):
        rows = slice(start, start + ROWS)
        total += float((update[rows].double() - factors.b[rows].double() @ a).square().sum())
    return total**0.5


def _enough(values: Tensor, energy: float | None, norm: float) -> int:
    """How many of the values hold the share `energy` of norm squared; all of them where they do not, at least one."""
    if energy is None:
        return len(values)
    held = values.square().cumsum(0)
    return min(len(values), int((held < energy * norm**2 * (1 - 1e-12)).sum()) + 1)


def _reaches(values: Tensor, energy: float, update: Tensor) -> bool:
    return float(values.square().sum()) >= energy * float(update.double().norm()) ** 2
