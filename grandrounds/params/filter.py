"""filter: how often each question is asked, and which pass counts are kept."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from grandrounds.params.engines import AnyEngine, Sampling, TransformersEngine
from grandrounds.params.section import Section


class Keep(Section):
    """Keep a question whose pass count lies in [min, max]. MedVLThinker: 1..7 of 16 (code)."""

    min: Annotated[int, Field(ge=0)] = 1
    max: Annotated[int, Field(ge=0)] = 6


class Exact(Section):
    """Stop asking a question once no outcome of what is left of its n samples can change the decision."""

    type: Literal["exact"] = "exact"


class Bayesian(Section):
    """Stop also once the decision will change with a chance of at most `error`, given what was seen so far."""

    type: Literal["bayesian"]
    error: Annotated[float, Field(gt=0, lt=0.5)] = 0.01


class Full(Section):
    """Draw all n samples of every question: complete pass counts, for a histogram or an easy-to-hard order."""

    type: Literal["full"]


Stopping = Annotated[Full | Exact | Bayesian, Field(discriminator="type")]


class Filter(Section):
    model: Path = Path("models/base")  # whose pass count decides; of the engines that load a folder
    engine: AnyEngine = TransformersEngine()
    n: PositiveInt = 8
    keep: Keep = Keep()
    stopping: Stopping = Exact()
    sampling: Sampling = Sampling()
    items: dict[Literal["text", "image_text"], Section]
