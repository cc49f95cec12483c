"""A model as labeller: the specialty of questions that neither their source nor a rule gives one."""

from collections.abc import Callable, Sequence

from grandrounds.domain import labelling
from grandrounds.engines.journal import Journal
from grandrounds.engines.protocol import Engine, Request
from grandrounds.params import Sampling
from grandrounds.records import Question


def name(
    questions: Sequence[Question], engine: Engine, kept: Journal, sampling: Sampling, done: Callable[[], None]
) -> tuple[dict[str, str], list[str]]:
    """The specialty of each question, by id, that the engine named one for; and why others could not be asked."""
    named: dict[str, str] = {}
    problems = []
    requests = [Request(each.id, each, labelling.ASKED) for each in questions]
    for completion in kept.generate(engine, requests, sampling):
        if completion.problem:
            problems.append(f"question {completion.id}: {completion.problem}")
        if specialty := labelling.read(completion.text):
            named[completion.id] = specialty
        done()
    return named, problems
