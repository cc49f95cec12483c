"""judge: who judges, under which prompt."""

from typing import Annotated, Literal

from pydantic import Field

from grandrounds.params.engines import GeminiEngine, OpenAIEngine
from grandrounds.params.section import Name, Section


class ReferenceJudge(Section):
    """Offline and deterministic: the verifier, and key facts looked up in the thinking. No language model."""

    type: Literal["reference"] = "reference"


class Judge(Section):
    judges: dict[Name, Annotated[ReferenceJudge | OpenAIEngine | GeminiEngine, Field(discriminator="type")]]
    prompt: str
    resamples: Annotated[int, Field(ge=200)] = 2000  # of the bootstrap
    baselines: tuple[str, ...] = ("base", "sft")
