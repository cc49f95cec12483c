"""curate: sources, splits, what is refused."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator

from grandrounds.params.engines import AnyEngine, FolderSettings, Sampling
from grandrounds.params.section import Fraction, Name, Section
from grandrounds.params.sources import AnySource, Duplicates, EmbeddedSource, SpecialtyRule


class Labeller(Section):
    """A model that names the specialty of questions; it exists before the pipeline, so `model` is none of its own."""

    engine: AnyEngine
    model: Path | None = None  # folder, for the engines that load one
    sampling: Sampling = Sampling(temperature=0.0, max_new_tokens=16)

    @model_validator(mode="after")
    def _model_where_one_is_loaded(self) -> Self:
        if (self.model is None) == isinstance(self.engine, FolderSettings):
            raise ValueError("'model', a folder, goes with the engines transformers, vllm and ray, and with no other")
        return self


class Curate(Section):
    sources: Annotated[dict[Name, AnySource], Field(min_length=1)] = {"embedded": EmbeddedSource()}
    validation: NonNegativeFloat = 0.1  # carved from train by group: below 1 a share of it, from 1 on questions
    quarantine_share: Fraction = 0.02  # of a source's rows: above it the stage fails
    max_pixels: PositiveInt = 50_000_000  # a picture with more is refused before it is decoded
    image_size_cap: Annotated[int, Field(ge=28)] = 1024  # longest side; larger pictures are scaled down
    duplicates: Duplicates = Duplicates()
    specialties: tuple[SpecialtyRule, ...] = ()  # tried in order
    labeller: Labeller | None = None  # asked where neither the source nor a rule says
    leakage: Literal["remove", "fail"] = "remove"  # training questions that an evaluation set also asks

    @property
    def embedded(self) -> EmbeddedSource | None:
        """The embedded source, where it is among the sources."""
        return next((each for each in self.sources.values() if isinstance(each, EmbeddedSource)), None)
