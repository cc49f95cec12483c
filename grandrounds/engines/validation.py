"""Which questions a model with an adapter answers right: asked, sampled and verified as `predict` does it."""

from collections.abc import Callable, Sequence
from pathlib import Path

from grandrounds import forms, runtime
from grandrounds.domain import prompts
from grandrounds.domain.answers import verify
from grandrounds.engines import factory
from grandrounds.engines.protocol import Request
from grandrounds.params import Params
from grandrounds.records import Question

BASE = "models/base"


def right(
    questions: Sequence[Question],
    params: Params,
    adapter: str | Path | None = None,
    advance: Callable[[], None] = lambda: None,
) -> list[bool]:
    """Strictly right or not, in the order of the questions, under the plain reasoning prompt; None: the base alone.

    `advance` is called for each answer as it comes.
    """
    settings, seed = params.predict, runtime.derive_seed(params.seed, "predict")
    engine = factory.make(settings.engine, BASE, params, seed, "predict.engine", adapter)
    form = prompts.form("reasoning", forms.read(params.prompts))
    asked = {each.id: each for each in questions}
    requests = [Request(f"reasoning/{each.id}", each, form) for each in questions]
    found = {}
    for completion in engine.generate(requests, settings.sampling):
        found[completion.id.partition("/")[2]] = completion.text
        advance()
    return [verify(asked[name], found[name], thinking=form.thinking).correct for name in asked]
