"""Which prompt form each rollout of a question stands under, and how the rollouts of a batch are drawn."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from grandrounds import decoding
from grandrounds.domain import prompts
from grandrounds.domain.prompts import Form
from grandrounds.encoding import Encoder
from grandrounds.params import Gba, GrpoItem, Sampling
from grandrounds.records import Question
from grandrounds.runtime import derive_seed


@dataclass(frozen=True)
class Rollouts:
    """How a question's rollouts are asked for: under one form each question, or each guideline in turn."""

    forms: tuple[Form, ...]
    spread: bool  # True: a group is dealt to all forms alike; False: each question has one form

    @classmethod
    def of(cls, item: GrpoItem, forms: Mapping[str, Form]) -> "Rollouts":
        guided = isinstance(item.advantages, Gba)
        names = item.advantages.guidelines if isinstance(item.advantages, Gba) else item.prompts
        return cls(tuple(prompts.form(name, forms) for name in names), guided)

    def form(self, row: int, rollout: int, group: int) -> int:
        """Which form rollout `rollout` of question `row` stands under."""
        if self.spread:
            return rollout * len(self.forms) // group
        return row % len(self.forms)


def row(encoder: Encoder, question: Question, form: Form, pictured: bool) -> dict[str, Any]:
    """What TRL and the rewards see of a rollout. In a batch with pictures every row has `images`, even if empty."""
    row = {
        "prompt": prompts.messages(question, form),
        "question": dataclasses.asdict(question),
        "prefill": form.prefill,
    }
    return row | ({"images": [encoder.image(question)] if question.image else []} if pictured else {})


def rollouts(
    model: Any, encoder: Encoder, asked: Sequence[tuple[Question, Form]], item: GrpoItem, seed: int
) -> list[list[int]]:
    """One completion's tokens for each rollout, end-of-turn token included where it came; groups stand side by side.

    The rollouts of a group that stand under one form share one prompt.
    """
    places: dict[tuple[int, Form], list[int]] = {}
    for place, (_, form) in enumerate(asked):
        places.setdefault((place // item.group, form), []).append(place)
    prompts = [encoder.prompt(*asked[shared[0]]) for shared in places.values()]
    seeds = [[derive_seed(seed, place) for place in shared] for shared in places.values()]
    sampling = Sampling(temperature=item.temperature, max_new_tokens=item.max_new_tokens)
    found: dict[int, list[int]] = {}
    for shared, drawn in zip(places.values(), decoding.draw(model, encoder, prompts, seeds, sampling), strict=True):
        for place, sample in zip(shared, drawn, strict=True):
            found[place] = [*sample.ids, encoder.end] if sample.finished else sample.ids
    return [found[place] for place in range(len(asked))]
