"""What stops a training before it spoils its weights: figures that are not finite, rewards that fail.

The error names the step and the questions. It comes before the optimizer's step, so that the weights, and the last
checkpoint, are those of the step before.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from grandrounds.domain.rewards import Rewards
from grandrounds.errors import UserError, one_line

SHOWN = 8  # question ids in a message


class Diverged(UserError):
    """A loss, gradient or reward is not a finite number. What was saved before is good."""


def ids_of(rows: Sequence[Any]) -> str:
    """The ids of a batch's questions, each once, the first few of many."""
    distinct = list(dict.fromkeys(_id(each) for each in rows))
    more = f" and {len(distinct) - SHOWN} more" if len(distinct) > SHOWN else ""
    return ", ".join(distinct[:SHOWN]) + more


def check_finite(value: Any, what: str, step: int, questions: Sequence[Any], mend: str) -> None:
    """Raises Diverged when the number, or any entry of the tensor, is not finite."""
    import torch

    if not torch.isfinite(torch.as_tensor(value)).all():
        raise Diverged(
            f"step {step}: the {what} is not finite, for questions {ids_of(questions)}; the last checkpoint is kept: "
            + mend
        )


def gradient_guard(batch: Callable[[], Sequence[Any]]) -> Any:
    """A callback that stops before the optimizer's step when a gradient is not finite; `batch` gives its questions."""
    import torch
    from transformers import TrainerCallback

    class Guard(TrainerCallback):
        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            sums = [each.grad.sum() for each in model.parameters() if each.grad is not None]
            if sums:
                check_finite(torch.stack(sums), "gradient", state.global_step + 1, batch(), "lower the learning rate")

    return Guard()


def checked(reward: Callable[..., Rewards]) -> Callable[..., Rewards]:
    """A reward that fails with one line: the step, the reward, the row and its question.

    Refused: an exception, another number of rewards than of completions, and a reward that is not None and not finite.
    """

    @functools.wraps(reward)
    def call(
        completions: Sequence[Any], *, question: Sequence[Any], trainer_state: Any = None, **columns: Any
    ) -> Rewards:
        columns |= {"question": question, "trainer_state": trainer_state}
        at = f"step {getattr(trainer_state, 'global_step', 0)}: the reward '{reward.__name__}'"
        try:
            found = list(reward(completions, **columns))
        except UserError:
            raise
        except Exception as error:
            row, problem = _culprit(reward, completions, columns)
            raise UserError(
                f"{at} failed {_row(row, question)}: {one_line(str(problem or error) or type(error).__name__)}"
            ) from error
        if len(found) != len(completions):
            row, _ = _culprit(reward, completions, columns)
            raise UserError(
                f"{at} returned {len(found)} rewards for {len(completions)} completions; it has to return "
                f"one, or None, for each. Found {_row(row, question)}"
            )
        for place, value in enumerate(found):
            if value is not None and not math.isfinite(value):
                raise Diverged(
                    f"{at} is {value} {_row(place, question)} (batch: {ids_of(question)}); the last "
                    "checkpoint is kept: a reward has to be a finite number, or None where it does not apply"
                )
        return found

    return call


def _culprit(reward: Callable[..., Rewards], completions: Sequence[Any], columns: dict) -> tuple[int | None, Any]:
    """The first row for which the reward fails alone, and its error; None when it fails only for the whole batch."""
    count = len(completions)
    for place in range(count):
        own = {
            name: value[place : place + 1] if isinstance(value, (list, tuple)) and len(value) == count else value
            for name, value in columns.items()
        }
        try:
            if len(list(reward(completions[place : place + 1], **own))) != 1:
                return place, None
        except Exception as error:
            return place, error
    return None, None


def _row(place: int | None, questions: Sequence[Any]) -> str:
    if place is None:
        return f"for the batch of questions {ids_of(questions)}, for no row alone"
    return f"for row {place}, question {_id(questions[place])}"


def _id(question: Any) -> str:
    return str(question["id"] if isinstance(question, Mapping) else question.id)
