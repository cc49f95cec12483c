"""What every way to generate has in common: requests in, completions out, in any order, with ids."""

from collections.abc import Iterable, Iterator
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
    problem: str = ""  # "": generated; else why there is no text, in one line


class Engine(Protocol):
    """Streams completions. The batch plan is a function of the requests, the text one of plan and seed."""

    def generate(self, requests: Iterable[Request], sampling: Sampling) -> Iterator[Completion]: ...
