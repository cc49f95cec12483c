"""merge: which updates, by which method, and what becomes of the result."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from grandrounds.params.section import Fraction, Name, Section

Density = Annotated[float, Field(gt=0, le=1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class Beside(Section):
    """The fifth adapter of a merge: one more update, or the twin that yields the conflict report's null."""

    name: Name
    path: Path
    role: Literal["update", "twin"]
    of: str = ""  # a twin names the specialist that it repeats under another seed


class _Method(Section):
    scale: PositiveFloat = 1.0  # lambda, on the merged update


class Linear(_Method):
    """Task arithmetic (2212.04089): the weighted sum."""

    type: Literal["linear"]


class Ties(_Method):
    """TIES (2306.01708): trim, elect a sign, average what agrees."""

    type: Literal["ties"] = "ties"
    density: Density = 0.5


class _Dare(_Method):
    density: Density = 0.5
    seed: Annotated[int, Field(ge=0)] = 0  # of the drops


class DareLinear(_Dare):
    """DARE (2311.03099): drop at random, rescale, add."""

    type: Literal["dare_linear"]


class DareTies(_Dare):
    """DARE (2311.03099) in the place of TIES' trim."""

    type: Literal["dare_ties"]


class Knots(_Method):
    """KnOTS (2410.19735): TIES in the basis that the updates share."""

    type: Literal["knots"]
    density: Density = 0.5


class Ram(_Method):
    """RAM+ (2601.13572): what one update alone uses is kept, what several use is averaged."""

    type: Literal["ram"]
    density: Density = 0.5  # of each update's entries, largest first, that it "uses"
    rescale: Annotated[float, Field(ge=0)] = 0.1  # 0: plain RAM
    limit: Annotated[float, Field(ge=0)] = 0.2  # of shared / own, which the rescaling follows


class ConflictAware(_Method):
    """Ours (docs/merging.md): own, agreed and contested entries by three rules, under the measured conflict."""

    type: Literal["conflict_aware"]
    density: Density = 0.5
    agreement: Fraction = 0.0  # on agreed entries; 0: their mean, 1: their sum
    caution: Annotated[float, Field(ge=0)] = 1.0  # on contested ones; 0: TIES


MergeMethod = Annotated[
    Ties | Linear | DareLinear | DareTies | Knots | Ram | ConflictAware, Field(discriminator="type")
]


MethodName = Literal["linear", "ties", "dare_linear", "dare_ties", "knots", "ram", "conflict_aware"]


class MergeRule(Section):
    """Weight, density or lambda for some modules, of one update or of all. Where several rules match, the last wins."""

    modules: str = "*"  # a glob on the module's name: "*.layers.3.*", "*.q_proj"
    update: str | None = None
    weight: Finite | None = None
    density: Density | None = None
    scale: Finite | None = None


class MergeSearch(Section):
    """Score methods x density x lambda on the validation split, and take the best that loses no specialist's gain."""

    methods: Annotated[tuple[MethodName, ...], Field(min_length=1)] = (
        "ties",
        "conflict_aware",
        "knots",
        "ram",
        "linear",
    )
    density: tuple[Density, Density] = (0.2, 1.0)
    scale: tuple[PositiveFloat, PositiveFloat] = (0.6, 1.6)
    trials: PositiveInt = 20
    minutes: PositiveFloat | None = None  # no trial begins after that; results then depend on the machine
    keep: Fraction = 0.5  # of each specialist's gain over the base, at least, that a merge must hold


class MergeItem(Section):
    updates: dict[Name, Path]
    beside: Beside
    weights: dict[str, float] = {}  # 1 where not named
    rules: tuple[MergeRule, ...] = ()
    method: MergeMethod = Ties()
    rank: PositiveInt = 32  # at most
    energy: Density | None = None  # the smallest rank that keeps this share of the squared norm


class Merge(Section):
    items: dict[Name, MergeItem]
    search: MergeSearch | None = None  # None: every item's own method
