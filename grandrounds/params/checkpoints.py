"""checkpoints: of adapt and of each grpo item: how often, how scored, and which one is kept."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from grandrounds.params.section import Section


class Checkpoints(Section):
    """Every `every` steps, and at the last; 0: none, and a run that is killed begins again.

    Each is scored on `questions` questions of the validation split. The best is the one with the highest score by
    `rule`, among those whose completions are `tokens` long at most in the mean; of equals the earliest.
    """

    every: Annotated[int, Field(ge=0)] = 0
    questions: Annotated[int, Field(ge=0)] = 64  # of data/curated/val.parquet, the same at each checkpoint; 0: no score
    keep: Literal["last", "best"] = "last"
    rule: Literal["accuracy", "reasoning"] = "accuracy"
    tokens: PositiveInt | None = None
    patience: Annotated[int, Field(ge=0)] = 0  # stop after so many checkpoints without a better one; 0: never
    max_new_tokens: PositiveInt = 64  # of an answer that is scored

    @model_validator(mode="after")
    def _scored(self) -> "Checkpoints":
        if (self.keep == "best" or self.patience) and not (self.every and self.questions):
            raise ValueError("keep: best and patience need scored checkpoints: give every and questions")
        return self
