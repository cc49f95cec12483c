"""adapt: supervised fine-tuning of the specialists and the generalist."""

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from grandrounds.params.checkpoints import Checkpoints
from grandrounds.params.section import Fraction, Name, Section


class Lora(Section):
    """RARL: r 8, alpha 16 on q, k, v, o of the language model (paper)."""

    r: PositiveInt = 8
    alpha: PositiveFloat = 16
    dropout: Fraction = 0.0
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj")


class SftTraining(Section):
    steps: PositiveInt = 100
    batch: PositiveInt = 32  # rows an optimizer step, on all devices
    accumulation: PositiveInt = 1  # micro-batches into which a batch is divided, for memory
    learning_rate: PositiveFloat = 2e-3
    warmup: Fraction = 0.05
    weight_decay: NonNegativeFloat = 0.0
    packing: NonNegativeInt = 0  # tokens of a row in which several examples stand; 0: one example a row
    assistant_only: bool = True  # the loss is on the assistant's turn; false: on the prompt too
    method: Literal["lora", "full"] = "lora"  # full: every weight of the language model; a whole model is saved
    lora: Lora = Lora()
    checkpoints: Checkpoints = Checkpoints()

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.batch % self.accumulation:
            fits = [n for n in range(1, self.batch + 1) if self.batch % n == 0]
            raise ValueError(f"batch {self.batch} does not divide into accumulation {self.accumulation}; {fits} would")
        return self


class Adapter(Section):
    specialties: tuple[str, ...]
    general: Annotated[float, Field(ge=0, lt=1)] = 0.0  # share of the other specialties' traces in its data
    seed_offset: int = 0  # another seed over the same data: the twin that gives merge its null


class Adapt(Section):
    training: SftTraining = SftTraining()
    items: dict[Name, Adapter]
