"""grpo: one item a system, with its rewards and advantages."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from grandrounds.params.adapt import Lora
from grandrounds.params.section import Name, Section
from grandrounds.records import MODALITIES


class Gba(Section):
    """Guideline-based advantages (ours; PAPERS in docs/papers.md gives the formula)."""

    type: Literal["gba"]
    guidelines: tuple[Literal["differential", "intuitive", "analytical", "bayesian"], ...] = (
        "differential",
        "intuitive",
        "analytical",
        "bayesian",
    )
    within: NonNegativeFloat = 1.0
    between: NonNegativeFloat = 1.0
    std_floor: NonNegativeFloat = 0.0


class Grouped(Section):
    """TRL's own group-relative advantages (GRPO, 2402.03300)."""

    type: Literal["grpo"] = "grpo"


class GrpoItem(Section):
    """One system: its questions, its start, its prompts, rewards and advantages."""

    questions: Path  # data/curated/train.parquet for the whole split, or a filtered file
    init: Path  # models/base, or an adapter that is folded in first
    modalities: tuple[str, ...] = MODALITIES
    prompts: tuple[str, ...] = ("reasoning",)  # forms, dealt to questions in turn
    rewards: dict[str, float]  # name -> weight
    advantages: Annotated[Grouped | Gba, Field(discriminator="type")] = Grouped()
    group: Annotated[int, Field(ge=2)] = 8  # rollouts a question
    questions_per_step: PositiveInt = 16
    steps: PositiveInt = 100
    learning_rate: PositiveFloat = 5e-4
    beta: NonNegativeFloat = 0.01
    clip: PositiveFloat = 0.2
    loss: Literal["grpo", "bnpo", "dr_grpo", "dapo"] = "bnpo"  # bnpo: mean over the batch's tokens
    temperature: PositiveFloat = 1.0
    max_new_tokens: PositiveInt = 64
    lora: Lora = Lora()
    seed_offset: int = 0  # another draw of everything random in this training, and of nothing else


class Grpo(Section):
    items: dict[Name, GrpoItem]
