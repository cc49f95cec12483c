"""base: where the model and the teacher come from."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from grandrounds.params.section import Section


class EmbeddedModel(Section):
    """A Qwen2.5-VL-class model trained here from nothing; the teacher goes on from the base."""

    type: Literal["embedded"] = "embedded"
    vocabulary: Annotated[int, Field(ge=300)] = 1024
    hidden: PositiveInt = 128
    layers: PositiveInt = 4
    heads: PositiveInt = 4
    vision_hidden: PositiveInt = 64
    vision_layers: PositiveInt = 2
    batch: PositiveInt = 32
    steps: PositiveInt = 300
    learning_rate: PositiveFloat = 3e-3
    vision_rate: PositiveFloat = 0.3  # learning rate of the vision tower, as a multiple of the rest's
    teacher_steps: PositiveInt = 500
    teacher_learning_rate: PositiveFloat = 2e-3
    teacher_emphasis: PositiveInt = 3  # how often `train` stands in the teacher's data
    teacher_rehearsal: Annotated[int, Field(ge=0)] = 4000  # questions of `pretrain`, stated as published, beside it


class GraftedModel(Section):
    """SmolLM2-135M-Instruct's weights in the Qwen2.5-VL class (`training/grafted.py`), with a small vision tower.

    The tower is trained here on the corpus's pictures, under the language model, which stays as it is. The teacher is
    the same model.
    """

    type: Literal["grafted"]
    vision_hidden: PositiveInt = 128
    vision_layers: PositiveInt = 4
    batch: PositiveInt = 8
    steps: PositiveInt = 60
    learning_rate: PositiveFloat = 1e-3


class HubRevision(Section):
    """A model on the Hugging Face hub at a pinned commit; only safetensors are fetched."""

    repository: str
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]


class HubModel(Section):
    """Fetched once each; where base and teacher are the same revision, once."""

    type: Literal["hub"]
    base: HubRevision
    teacher: HubRevision


class LocalModel(Section):
    """Folders that hold transformers models; copied, safetensors only."""

    type: Literal["local"]
    base: Path
    teacher: Path


class Base(Section):
    model: Annotated[EmbeddedModel | GraftedModel | HubModel | LocalModel, Field(discriminator="type")] = (
        EmbeddedModel()
    )
