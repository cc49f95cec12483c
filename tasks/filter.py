"""filter <modality>: how hard is each training question for the base itself?

Rollouts at temperature 1; a question is kept when its pass count of n lies between two bounds, as in MedVLThinker. What
could not be read is counted apart from what was wrong. A question may be left as soon as the rest of its n samples
cannot change the decision (`filter.stopping`); every sample is kept on disk as it comes, so that a killed run goes on.
"""

from collections import Counter

from grandrounds import files, forms, runtime
from grandrounds.domain import difficulty, prompts
from grandrounds.domain.answers import verify
from grandrounds.engines import factory
from grandrounds.engines.journal import Journal, journal
from grandrounds.engines.protocol import Engine, Request
from grandrounds.params import Filter, Params
from grandrounds.records import Difficulty, Question
from grandrounds.tracking.progress import progress
from grandrounds.tracking.stage import stage_run, task_main

QUESTIONS, IMAGES = "data/curated/train.parquet", "data/curated/images"


def main(item: str, params: Params) -> None:
    settings = params.filter
    output = f"data/filtered/{item}.parquet"
    with (
        stage_run("filter", item, params, inputs=[QUESTIONS, IMAGES, str(settings.model)], outputs=[output]) as run,
        journal("filter", item, run.identity) as kept,
    ):
        questions = [each for each in files.read(QUESTIONS, Question) if each.modality == item]
        seed = runtime.derive_seed(params.seed, "filter", item)
        engine = factory.make(settings.engine, settings.model, params, seed, "filter.engine")
        asked = prompts.form("reasoning", forms.read(params.prompts))
        rows, problems = rate(questions, asked, engine, kept, settings)
        files.write(output, rows, Difficulty)
        run.warn(*difficulty.warnings(rows))
        run.warn(*problems)
        run.finish(difficulty.summary(rows, settings.n))


def rate(
    questions: list[Question], asked: prompts.Form, engine: Engine, kept: Journal, settings: Filter
) -> tuple[list[Difficulty], list[str]]:
    """The decision on each question, and the problems of samples that could not be drawn, one a question.

    Rounds: each asks every open question for as many samples as could end it. Sample i of a question is the same
    whatever the stopping, so the decisions are those of all n. Of a sample only the counts stay in memory.
    """
    decider = difficulty.Decider(settings.n, settings.keep, settings.stopping)
    by_id = {each.id: each for each in questions}
    drawn, extracted, correct = Counter[str](), Counter[str](), Counter[str]()
    problems: dict[str, str] = {}
    left = questions
    with progress(len(questions) * settings.n, "rollouts") as advance:
        while left:
            requests = (
                Request(f"{each.id}/{sample}", each, asked, sample)
                for each in left
                for sample in range(drawn[each.id], drawn[each.id] + decider.needed(drawn[each.id], correct[each.id]))
            )
            for completion in kept.generate(engine, requests, settings.sampling):
                question = by_id[completion.id.rpartition("/")[0]]
                if completion.problem:
                    problems.setdefault(question.id, completion.problem)
                read = verify(question, completion.text)
                drawn[question.id] += 1
                extracted[question.id] += read.extracted
                correct[question.id] += read.correct
                advance()
            before, left = left, []
            for each in before:
                if each.id in problems or not decider.needed(drawn[each.id], correct[each.id]):
                    advance(settings.n - drawn[each.id])
                else:
                    left.append(each)
    rows = [
        difficulty.refused(each, settings.n)
        if each.id in problems
        else difficulty.grade(each, drawn[each.id], extracted[each.id], correct[each.id], decider)
        for each in questions
    ]
    return rows, [f"question {name}: {problem}" for name, problem in problems.items()]


if __name__ == "__main__":
    task_main("filter", main, items=True)
