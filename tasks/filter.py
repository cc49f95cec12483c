"""filter <modality>: how hard is each training question for the base itself?

n rollouts a question at temperature 1; a question is kept when its pass count lies between two bounds, as in
MedVLThinker. What could not be read is counted apart from what was wrong.
"""

from collections import Counter

from grandrounds import files, runtime
from grandrounds.domain import difficulty, prompts
from grandrounds.domain.answers import verify
from grandrounds.encoding import Encoder
from grandrounds.engines import local
from grandrounds.engines.protocol import Request
from grandrounds.params import Params
from grandrounds.records import Difficulty, Question
from grandrounds.tracking.progress import progress
from grandrounds.tracking.stage import stage_run, task_main

QUESTIONS, IMAGES = "data/curated/train.parquet", "data/curated/images"


def main(item: str, params: Params) -> None:
    settings = params.filter
    output = f"data/filtered/{item}.parquet"
    with stage_run("filter", item, params, inputs=[QUESTIONS, IMAGES, str(settings.model)], outputs=[output]) as run:
        questions = [each for each in files.read(QUESTIONS, Question) if each.modality == item]
        asked = prompts.form("reasoning", params.prompts.wording)
        requests = [
            Request(f"{each.id}/{sample}", each, asked, sample) for each in questions for sample in range(settings.n)
        ]
        model, processor = local.load(settings.model, runtime.device(params), params.compute.precision)
        engine = local.LocalEngine(model, Encoder(processor), runtime.derive_seed(params.seed, "filter", item))
        question_of = {request.id: request.question for request in requests}

        extracted: Counter[str] = Counter()
        correct: Counter[str] = Counter()
        with progress(len(requests), f"rollouts, {item}") as advance:
            for completion in engine.generate(requests, settings.sampling):
                question = question_of[completion.id]
                read = verify(question, completion.text)
                extracted[question.id] += read.extracted
                correct[question.id] += read.correct
                advance()

        rows = [
            difficulty.grade(each, extracted[each.id], correct[each.id], settings.n, settings.keep)
            for each in questions
        ]
        files.write(output, rows, Difficulty)
        run.finish(difficulty.summary(rows, settings.n))


if __name__ == "__main__":
    task_main("filter", main, items=True)
