"""adapt: supervised fine-tuning of the specialists and the generalist."""

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

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
    batch: PositiveInt = 32
    learning_rate: PositiveFloat = 2e-3
    warmup: Fraction = 0.05
    weight_decay: NonNegativeFloat = 0.0
    lora: Lora = Lora()
    checkpoints: Checkpoints = Checkpoints()


class Adapter(Section):
    specialties: tuple[str, ...]
    seed_offset: int = 0  # another seed over the same data: the twin that gives merge its null


class Adapt(Section):
    training: SftTraining = SftTraining()
    items: dict[Name, Adapter]
