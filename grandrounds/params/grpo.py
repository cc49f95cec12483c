"""grpo: one item a system, with its rewards and advantages."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from grandrounds.params.adapt import Lora
from grandrounds.params.checkpoints import Checkpoints
from grandrounds.params.section import Name, Section
from grandrounds.records import MODALITIES

# A reward's weight: a number, or {step: weight} with straight lines between and the ends held.
Weight = float | Annotated[dict[NonNegativeInt, float], Field(min_length=1)]


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
    # plain: guidelines only explore, and the update is computed under the question's own prompt, off-policy
    update_prompt: Literal["guideline", "plain"] = "guideline"


class Grouped(Section):
    """TRL's own group-relative advantages (GRPO, 2402.03300). Dr. GRPO (2503.20783): scale none, with loss dr_grpo."""

    type: Literal["grpo"] = "grpo"
    scale: Literal["group", "batch", "none"] = "group"  # what a centred reward is divided by the deviation of
    std_floor: NonNegativeFloat = 0.0  # a lower bound on that deviation; of scale group only

    @model_validator(mode="after")
    def _floor_of_a_group(self) -> Self:
        if self.std_floor and self.scale != "group":
            raise ValueError(f"std_floor is a floor under a group's deviation: scale '{self.scale}' has none")
        return self


class Gdpo(Section):
    """TRL's GDPO (2601.05242): each reward normalised in its group, then the weighted sum over the batch."""

    type: Literal["gdpo"]


class Watch(Section):
    """What is kept of every `every`th step beside its figures: samples and histograms. 0: of none."""

    every: NonNegativeInt = 10
    completions: PositiveInt = 8  # samples, from as many questions as there are
    bins: PositiveInt = 10


class GrpoItem(Section):
    """One system: its questions, its start, its prompts, rewards and advantages."""

    questions: Path  # data/curated/train.parquet for the whole split, or a filtered file
    init: Path  # models/base, or an adapter that is folded in first
    modalities: tuple[str, ...] = MODALITIES
    order: Literal["shuffled", "easy_to_hard"] = "shuffled"  # easy_to_hard: by a filtered file's pass counts
    prompts: tuple[str, ...] = ("reasoning",)  # forms, dealt to questions in turn
    rewards: Annotated[dict[str, Weight], Field(min_length=1)]  # name -> weight
    advantages: Annotated[Grouped | Gba | Gdpo, Field(discriminator="type")] = Grouped()
    group: Annotated[int, Field(ge=2)] = 8  # rollouts a question
    questions_per_step: PositiveInt = 16  # an optimizer step
    accumulation: PositiveInt = 1  # micro-batches into which a step's rollouts are divided, for memory
    updates: PositiveInt = 1  # steps for which questions are rolled out at once
    iterations: PositiveInt = 1  # passes over those rollouts
    resample: NonNegativeInt = 0  # rounds of new questions for groups whose rewards are all equal (DAPO, 2503.14476)
    steps: PositiveInt = 100
    learning_rate: PositiveFloat = 5e-4
    beta: NonNegativeFloat = 0.01  # of the KL term to the start, by the k3 estimator
    kl_weighted: bool = (
        True  # k3 times the ratio, TRL's default: an unbiased gradient (2512.02556); false: as in the papers
    )
    clip: PositiveFloat = 0.2
    clip_high: PositiveFloat | None = None  # above 1; None: as below (DAPO: 0.28)
    ratio: Literal["token", "sequence"] = "token"  # sequence: GSPO (2507.18071)
    loss: Literal["grpo", "bnpo", "dr_grpo", "dapo"] = "bnpo"  # bnpo: mean over the batch's tokens
    temperature: PositiveFloat = 1.0
    max_new_tokens: PositiveInt = 64
    drop_truncated: bool = False  # completions that reached max_new_tokens teach nothing (DAPO)
    watch: Watch = Watch()
    lora: Lora = Lora()
    seed_offset: int = 0  # another draw of everything random in this training, and of nothing else
    checkpoints: Checkpoints = Checkpoints()

    @model_validator(mode="after")
    def _checkpoints_between_rollouts(self) -> Self:
        span = self.updates * self.iterations
        if self.checkpoints.every % span:
            raise ValueError(
                f"checkpoints.every: {self.checkpoints.every} falls among the {span} steps that share their rollouts "
                f"(updates {self.updates} x iterations {self.iterations}); give a multiple of {span}"
            )
        return self


class Grpo(Section):
    items: dict[Name, GrpoItem]
