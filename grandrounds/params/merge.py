"""merge: which updates, by which method."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from grandrounds.params.section import Name, Section


class Beside(Section):
    """The fifth adapter of a merge: one more update, or the twin that yields the conflict report's null."""

    name: Name
    path: Path
    role: Literal["update", "twin"]
    of: str = ""  # a twin names the specialist that it repeats under another seed


class Ties(Section):
    """TIES (2306.01708) on exact updates, saved as a LoRA of the given rank by truncated SVD."""

    type: Literal["ties"] = "ties"
    density: Annotated[float, Field(gt=0, le=1)] = 0.5
    scale: PositiveFloat = 1.0  # lambda, on the merged update


class Linear(Section):
    """Task arithmetic (2212.04089): the weighted sum."""

    type: Literal["linear"]
    scale: PositiveFloat = 1.0


Method = Annotated[Ties | Linear, Field(discriminator="type")]


class MergeItem(Section):
    updates: dict[Name, Path]
    beside: Beside
    weights: dict[str, float] = {}  # 1 where not named
    method: Method = Ties()
    rank: PositiveInt = 32


class Merge(Section):
    items: dict[Name, MergeItem]
