"""Ablations: named comparisons of arms over seeds, each training a DVC experiment.

`ablations.yaml` holds them as data. A seed here is one of the arm's own training (`seed_offset` of its item): data,
base, filter and traces stay as they are, so that arms of a seed share everything but what the ablation is about, and a
seed costs minutes and not a whole run. What another base would give is not asked.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from grandrounds.errors import UserError, unknown
from grandrounds.params import Params, Section, check
from grandrounds.params.section import Name
from grandrounds.recipes import read
from grandrounds.tracking.experiments import look_up

FILE = Path("ablations.yaml")
RESULTS = Path("reports/ablations")
SECTIONS = {
    "adapters": "adapt",
    "policies": "grpo",
}  # folder under models/ -> the section whose items are trained there


class Variant(Section):
    """An arm of predict.arms, with some keys of params.yaml set otherwise; None removes a key."""

    arm: Name
    set: dict[str, Any] = {}


class Ablation(Section):
    asks: str
    claim: str  # what is published, and where
    against: Name  # the arm that the others are compared with
    arms: dict[Name, Variant] = Field(min_length=2)

    @model_validator(mode="after")
    def _against_is_an_arm(self) -> "Ablation":
        if self.against not in self.arms:
            raise ValueError(f"against: '{self.against}' is none of the arms {', '.join(self.arms)}")
        return self


@dataclass(frozen=True)
class Trial:
    """One training of one arm: a DVC experiment. Two ablations that want the same one share it."""

    variant: str
    seed: int
    arm: str
    overrides: dict[str, Any]  # dotted key of params.yaml -> value; None removes it

    @property
    def target(self) -> str:
        """The stage to reproduce, with all that it needs."""
        return f"predict@{self.arm}"

    @property
    def predictions(self) -> str:
        return f"data/predictions/{self.arm}.parquet"

    @property
    def name(self) -> str:
        """`rarl-s1-as-is`, or with a hash of what is set in place of `as-is`."""
        others = {key: value for key, value in self.overrides.items() if not key.endswith(".seed_offset")}
        told = hashlib.sha256(json.dumps(others, sort_keys=True).encode()).hexdigest()[:8] if others else "as-is"
        return f"{self.arm}-s{self.seed}-{told}"


def load(path: Path = FILE) -> dict[str, Ablation]:
    """All ablations by name. Every mistake is one line that names the key."""
    try:
        return TypeAdapter(dict[Name, Ablation]).validate_python(read(path))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{path}: {key}: {first['msg'].removeprefix('Value error, ')}") from None


def find(name: str, path: Path = FILE) -> Ablation:
    known = load(path)
    if name not in known:
        raise unknown("ablation", name, known)
    return known[name]


def trials(name: str, ablation: Ablation, seeds: int, raw: Mapping[str, Any], params: Params) -> list[Trial]:
    """Every training that an ablation needs, seed by seed, each checked as params.yaml itself would be.

    `raw` is params.yaml as plain values. Raises UserError for an arm that is not there, or that is not trained but
    merged, and for a setting that params.yaml would refuse.
    """
    made = []
    for seed in range(seeds):
        for variant, spec in ablation.arms.items():
            where = f"{FILE}: {name}.arms.{variant}"
            key, now = _own_seed(where, spec.arm, params)
            same = {name for name, value in spec.set.items() if look_up(raw, name) == (value is not None, value)}
            overrides = {name: value for name, value in spec.set.items() if name not in same}
            if seed:
                overrides[key] = now + seed
            check(changed(raw, overrides), where)
            made.append(Trial(variant, seed, spec.arm, overrides))
    return made


def _own_seed(where: str, arm: str, params: Params) -> tuple[str, int]:
    """The key of the arm's own seed, and its value."""
    if arm not in params.predict.arms:
        raise UserError(f"{where}: {unknown('arm', arm, params.predict.arms)}")
    folder = params.predict.arms[arm].adapter
    if (section := SECTIONS.get(folder.parent.name)) is None:
        raise UserError(
            f"{where}: '{arm}' is {folder}, which is not trained and has no seed of its own; "
            f"take an arm under models/{' or models/'.join(SECTIONS)}"
        )
    item = getattr(params, section).items[folder.name]
    return f"{section}.items.{folder.name}.seed_offset", item.seed_offset


def changed(raw: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """params.yaml's values with the overrides applied, as DVC will apply them."""
    values = json.loads(json.dumps(raw))
    for key, value in overrides.items():
        *parents, last = key.split(".")
        node = values
        for part in parents:
            node = node.setdefault(part, {})
        if value is None:
            node.pop(last, None)
        else:
            node[last] = value
    return values
