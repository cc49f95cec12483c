"""Which questions a batch asks, under which prompt form each rollout stands, and how the rollouts are drawn."""

import dataclasses
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from grandrounds import decoding
from grandrounds.domain import prompts
from grandrounds.domain.prompts import Form
from grandrounds.encoding import Encoder
from grandrounds.errors import UserError
from grandrounds.params import Gba, GrpoItem, Sampling
from grandrounds.records import Question
from grandrounds.runtime import derive_seed

Asked = tuple[Question, Form]


@dataclass(frozen=True)
class Rollouts:
    """How a question's rollouts are asked for: under one form each question, or each guideline in turn."""

    forms: tuple[Form, ...]
    spread: bool  # True: a group is dealt to all forms alike; False: each question has one form
    plain: tuple[Form, ...] = ()  # the forms under which the update is computed instead, one each question

    @classmethod
    def of(cls, item: GrpoItem, forms: Mapping[str, Form]) -> "Rollouts":
        """Raises UserError for an unknown form, and for guidelines that open the turn otherwise than the plain form."""
        own = tuple(prompts.form(name, forms) for name in item.prompts)
        if not isinstance(item.advantages, Gba):
            return cls(own, False)
        guided = tuple(prompts.form(name, forms) for name in item.advantages.guidelines)
        if item.advantages.update_prompt == "guideline":
            return cls(guided, True)
        if len({form.prefill for form in (*own, *guided)}) > 1:
            raise UserError(
                f"grpo: update_prompt: plain needs prompts that open the assistant's turn as the guidelines do; "
                f"{', '.join(item.prompts)} do not all: use reasoning"
            )
        return cls(guided, True, own)

    def form(self, row: int, rollout: int, group: int) -> int:
        """Which form rollout `rollout` of question `row` stands under."""
        if self.spread:
            return rollout * len(self.forms) // group
        return row % len(self.forms)

    def updated(self, row: int, form: int) -> Form:
        """The form under which the update of a rollout drawn under form `form` is computed."""
        return self.plain[row % len(self.plain)] if self.plain else self.forms[form]


def micro_batch(item: GrpoItem, processes: int) -> int:
    """Rollouts of one micro-batch on one process. Raises UserError when groups would not stay whole."""
    rollouts = item.group * item.questions_per_step
    if rollouts % (item.accumulation * processes):
        fits = [str(n) for n in range(1, rollouts + 1) if rollouts % (n * processes) == 0]
        raise UserError(
            f"grpo: the {rollouts} rollouts of a step (group {item.group} x questions_per_step "
            f"{item.questions_per_step}) cannot be divided into {item.accumulation} micro-batches on each of "
            f"{processes} processes; accumulation may be {', '.join(fits[:8]) or 'nothing: change questions_per_step'}"
        )
    drawn = item.questions_per_step * item.updates
    if drawn % processes:
        raise UserError(
            f"grpo: the {drawn} questions rolled out at once (questions_per_step {item.questions_per_step} x updates "
            f"{item.updates}) cannot be dealt to {processes} processes; use a multiple of {processes}"
        )
    return rollouts // (item.accumulation * processes)


def replacements(asked: Sequence[int], wanted: int, total: int, ordered: bool, seed: int) -> list[int]:
    """Rows of other questions, at most `wanted`: drawn by the seed; those that come next where the order matters."""
    taken = set(asked)
    if ordered:
        ahead = [(max(taken) + 1 + i) % total for i in range(total)]
        return [row for row in ahead if row not in taken][:wanted]
    left = [row for row in range(total) if row not in taken]
    return random.Random(seed).sample(left, min(wanted, len(left)))


def row(encoder: Encoder, question: Question, form: Form, pictured: bool) -> dict[str, Any]:
    """What TRL and the rewards see of a rollout. In a batch with pictures every row has `images`, even if empty."""
    columns = {
        "prompt": prompts.messages(question, form),
        "question": dataclasses.asdict(question),
        "prefill": form.prefill,
    }
    return columns | ({"images": [encoder.image(question)] if question.image else []} if pictured else {})


def rollouts(
    model: Any, encoder: Encoder, asked: Sequence[Asked], item: GrpoItem, seed: int, first: int = 0
) -> list[list[int]]:
    """One completion's tokens for each rollout, end-of-turn token included where it came; groups stand side by side.

    The rollouts of a group that stand under one form share one prompt. `first` is the place of the first rollout in the
    batch of all processes, so that their number does not change what is drawn.
    """
    places: dict[tuple[int, Form], list[int]] = {}
    for place, (_, form) in enumerate(asked):
        places.setdefault((place // item.group, form), []).append(place)
    prompts = [encoder.prompt(*asked[shared[0]]) for shared in places.values()]
    seeds = [[derive_seed(seed, first + place) for place in shared] for shared in places.values()]
    sampling = Sampling(temperature=item.temperature, max_new_tokens=item.max_new_tokens)
    pictures = {getattr(model.config, name, None) for name in ("image_token_id", "video_token_id")}
    found: dict[int, list[int]] = {}
    for shared, drawn in zip(places.values(), decoding.draw(model, encoder, prompts, seeds, sampling), strict=True):
        for place, sample in zip(shared, drawn, strict=True):
            found[place] = _text_only(
                [*sample.ids, encoder.end] if sample.finished else sample.ids, pictures, encoder.end
            )
    return [found[place] for place in range(len(asked))]


def _text_only(ids: list[int], pictures: set[int | None], end: int) -> list[int]:
    """A completion ends where it has a picture's placeholder: the model would look for the picture, and fail."""
    place = next((i for i, token in enumerate(ids) if token in pictures), None)
    return ids if place is None else [*ids[:place], end]
