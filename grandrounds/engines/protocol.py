"""What every way to generate has in common: requests in, completions out, in any order, with ids."""

import hashlib
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from grandrounds.domain.prompts import Form
from grandrounds.params import Sampling
from grandrounds.records import Question


@dataclass(frozen=True, slots=True)
class Request:
    """One sample to draw. `id` comes back with its completion; `sample` tells the samples of one question apart."""

    id: str
    question: Question
    form: Form
    sample: int = 0


@dataclass(frozen=True, slots=True)
class Completion:
    """What was generated for one request; `text` begins with what the form prefilled."""

    id: str
    text: str
    tokens: int  # generated, end-of-turn token included
    finished: bool  # the end-of-turn token came before the limit
    problem: str = ""  # why nothing was generated, in one line; the text is then empty
    cost: float = 0.0  # US dollars, where the engine is paid for


class Engine(Protocol):
    """Streams completions. The batch plan is a function of the requests, the text one of plan and seed.

    Requests in `done` were answered in a run that was interrupted: they keep their place in the plan, and are not
    answered again unless they share a batch with one that was not.
    """

    def generate(
        self, requests: Iterable[Request], sampling: Sampling, done: Container[str] = ()
    ) -> Iterator[Completion]: ...


def seed_of(seed: int, request: str) -> int:
    """The seed of one sample: its text does not depend on what else is asked."""
    return int.from_bytes(hashlib.blake2b(f"{seed}\n{request}".encode(), digest_size=7).digest(), "big")
