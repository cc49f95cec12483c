"""benchmarks: sets that every arm answers beside val, test and unseen, each a declaration."""

from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from grandrounds.params.engines import Sampling
from grandrounds.params.section import Section
from grandrounds.params.sources import FilesOnly, Names
from grandrounds.records import Kind

READY = Path(__file__).with_name("benchmarks.yaml")


class Select(Section):
    """Which rows of the source are meant: those that have one of the values in every column that is named."""

    topic: Names = ()
    kind: tuple[Kind, ...] = ()


class Benchmark(Section):
    """One benchmark. Its name is a further split in everything that `predict` and `judge` write.

    `published` takes a ready declaration of benchmarks.yaml beside this module; keys that stand beside it come first.
    """

    published: str | None = None
    source: FilesOnly
    select: Select = Select()
    prompts: tuple[Literal["reasoning", "no_reasoning", "text_only"], ...] = ("reasoning", "no_reasoning")
    sampling: Sampling | None = None  # none: that of predict
    samples: NonNegativeInt = 0  # above 1: as many samples under the reasoning prompt, for pass@k and the majority
    samples_at: Sampling | None = None  # none: predict's, at temperature 1
    metric: Literal["accuracy", "bertscore"] = "accuracy"  # bertscore: of open-ended answers, beside the accuracy
    rows: PositiveInt | None = None  # pinned: curate refuses another number of questions
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None  # pinned: of all questions and pictures

    @model_validator(mode="before")
    @classmethod
    def _from_published(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        name = given.get("published")
        if name is not None and name not in ready():
            raise ValueError(f"published: one of {', '.join(ready())} is wanted")
        known = ready()[name] if name is not None else {}
        merged = {**known, **given}
        source = {**known.get("source", {}), **(given.get("source") or {})}
        return {**merged, "source": {"role": "test", **source}}

    @model_validator(mode="after")
    def _answered_at_all(self) -> "Benchmark":
        if "reasoning" not in self.prompts:
            raise ValueError("prompts: a benchmark's own figures are those of the prompt 'reasoning'; add it")
        if self.samples == 1:
            raise ValueError("samples: one sample has no majority; 0, or 2 and more")
        if self.source.role != "test":
            raise ValueError("source.role: a benchmark feeds no other split; leave it out")
        return self


@cache
def ready() -> dict[str, Any]:
    """The published benchmarks by name, as benchmarks.yaml declares them."""
    found: dict[str, Any] = yaml.safe_load(READY.read_text(encoding="utf-8"))
    return found
