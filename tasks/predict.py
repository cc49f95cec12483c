"""predict <arm>: one arm answers every question of val, test and unseen, greedily, with and without reasoning.

Benchmarks are asked as they declare, also with the picture withheld, or several times. Evaluation always uses the plain
prompts, whatever an arm was trained under, so that arms are comparable (RARL compares the two at inference). Nothing is
scored here but by the one verifier; strict and lenient readings stand side by side.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby

from grandrounds import asking, files, forms, runtime
from grandrounds.domain import prompts
from grandrounds.domain.answers import verify
from grandrounds.engines import factory
from grandrounds.engines.journal import journal
from grandrounds.engines.protocol import Completion, Request
from grandrounds.params import Params, Sampling
from grandrounds.records import Prediction, Question
from grandrounds.tracking.progress import progress
from grandrounds.tracking.stage import stage_run, task_main

IMAGES, BASE = "data/curated/images", "models/base"


def main(item: str, params: Params) -> None:
    settings = params.predict
    adapter = str(settings.arms[item].adapter)
    curated = [f"data/curated/{split}.parquet" for split in settings.splits]
    inputs = list(dict.fromkeys([*curated, IMAGES, asking.BENCHMARKS, BASE, adapter]))
    output = f"data/predictions/{item}.parquet"
    with (
        stage_run("predict", item, params, inputs=inputs, outputs=[output]) as run,
        journal("predict", item, run.identity) as before,
    ):
        seed = runtime.derive_seed(params.seed, "predict")
        on_base = adapter if adapter != BASE else None
        engine = factory.make(settings.engine, BASE, params, seed, "predict.engine", on_base)
        requests: dict[str, tuple[str, Request]] = {}  # by id, with the prompt's name
        by_sampling: dict[Sampling, list[Request]] = {}
        for name, request, sampling in asked(params):
            requests[request.id] = name, request
            by_sampling.setdefault(sampling, []).append(request)
        rows: dict[str, Prediction] = {}
        refused: list[str] = []
        with progress(len(requests), f"answers, {item}") as advance:
            for sampling, together in by_sampling.items():
                for completion in before.generate(engine, together, sampling):
                    rows[completion.id] = prediction(item, *requests[completion.id], completion)
                    if completion.problem:
                        refused.append(f"{completion.id}: {completion.problem}")
                    advance()
        run.warn(*refused)
        ordered = [rows[name] for name in requests]
        files.write(output, ordered, Prediction)
        run.finish(
            {
                "predictions": len(ordered),
                "mean_tokens": sum(row.tokens for row in ordered) / max(1, len(ordered)),
                "unfinished": sum(not row.finished for row in ordered),
                "refused": len(refused),
            }
        )


def asked(params: Params) -> Iterator[tuple[str, Request, Sampling]]:
    """Every request with its prompt's name, question by question within a set; samples of one question together."""
    wordings = forms.read(params.prompts)
    for path, passes in groupby(asking.rounds(params), lambda each: each.path):
        together = list(passes)
        for question in files.read(path, Question):
            for each in together:
                shown = replace(question, image="") if each.prompt == asking.TEXT_ONLY else question
                for sample in range(each.samples):
                    name = f"{each.prompt}{sample}" if each.prompt == asking.SAMPLED else each.prompt
                    form = prompts.form(each.form, wordings)
                    yield each.prompt, Request(f"{name}/{question.id}", shown, form, sample), each.sampling


def prediction(arm: str, prompt: str, request: Request, completion: Completion) -> Prediction:
    question, thinking = request.question, request.form.thinking
    strict = verify(question, completion.text, thinking=thinking)
    lenient = verify(question, completion.text, thinking=thinking, strict=False)
    return Prediction(
        arm=arm, question_id=question.id, split=question.split, prompt=prompt,
        completion=completion.text, tokens=completion.tokens, finished=completion.finished,
        extracted=strict.extracted, format_ok=strict.format_ok, answer=strict.answer, correct=strict.correct,
        correct_lenient=lenient.correct,
    )  # fmt: skip


if __name__ == "__main__":
    task_main("predict", main, items=True)
