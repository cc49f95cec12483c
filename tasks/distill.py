"""distill: the teacher answers, wrong and unsound answers are rejected, and one right one becomes a trace to learn.

MedVLThinker samples its teacher n = 3 times at temperature 1 and keeps the first correct sample's thinking (code). The
sft baseline of all three papers learns from these traces, and so do the specialists. Each trace says where it is from.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, field

from grandrounds import files, forms, runtime
from grandrounds.domain import prompts
from grandrounds.domain.answers import thinking_of
from grandrounds.domain.traces import choose
from grandrounds.engines import factory
from grandrounds.engines.journal import Journal, journal
from grandrounds.engines.protocol import Completion, Request
from grandrounds.params import Distill, FolderSettings, Params, RayEngine, Reference
from grandrounds.records import MODALITIES, Difficulty, Question, Trace
from grandrounds.tracking import lock
from grandrounds.tracking.progress import progress
from grandrounds.tracking.stage import stage_run, task_main

QUESTIONS, IMAGES, TEACHER, TRACES = (
    "data/curated/train.parquet", "data/curated/images", "models/teacher", "data/traces.parquet",
)  # fmt: skip
Answers = Generator[tuple[Question, list[Completion]], None, None]  # a question and its samples, by number
FILTERED = tuple(f"data/filtered/{modality}.parquet" for modality in MODALITIES)


def main(item: str | None, params: Params) -> None:
    settings = params.distill
    inputs = [QUESTIONS, IMAGES, TEACHER, *FILTERED]
    with (
        stage_run("distill", item, params, inputs=inputs, outputs=[TRACES]) as run,
        journal("distill", item, run.identity) as before,
    ):
        questions = files.read(QUESTIONS, Question)
        if settings.questions == "filtered":
            kept = {row.question_id for path in FILTERED for row in files.read(path, Difficulty) if row.kept}
            questions = [each for each in questions if each.id in kept]
        answers = (
            references(questions) if isinstance(settings.teacher, Reference) else sampled(questions, params, before)
        )
        with closing(answers):  # an error in choosing ends the engine and the bar at once
            taught = choose_all(answers, settings, prompts.digest(forms.read(params.prompts)))
        traces = [taught.traces[each.id] for each in questions if each.id in taught.traces]
        files.write(TRACES, traces, Trace)
        refused = [f"question {each.id}: {why}" for each in questions for why in taught.refused.get(each.id, ())]
        run.warn(*refused)
        run.finish(
            {
                "questions": len(questions),
                "accepted": len(traces),
                "rejected": dict(sorted(taught.rejected.items())),
                "teacher_accuracy": sum(row.correct for row in traces) / max(1, taught.drawn),
                "mean_tokens": taught.tokens / max(1, taught.drawn),
                "cost": math.fsum(taught.costs),
                "refused": len(refused),
                "by_specialty": dict(sorted(Counter(row.specialty for row in traces).items())),
            }
        )


def sampled(questions: list[Question], params: Params, before: Journal) -> Answers:
    """n answers of the teacher to each question, question by question as the last of them comes.

    What a run that was interrupted had drawn is in `before`.
    """
    settings = params.distill
    assert not isinstance(settings.teacher, Reference)
    asked = prompts.form("reasoning", forms.read(params.prompts))
    by_id = {each.id: each for each in questions}
    requests = (
        Request(f"{each.id}/{sample}", each, asked, sample) for each in questions for sample in range(settings.n)
    )
    seed = runtime.derive_seed(params.seed, "distill")
    engine = factory.make(settings.teacher, TEACHER, params, seed, "distill.teacher")
    pending: dict[str, dict[int, Completion]] = defaultdict(dict)  # question id -> sample number -> completion
    with progress(len(questions) * settings.n, "teacher samples") as advance:
        for completion in before.generate(engine, requests, settings.sampling):
            name, _, sample = completion.id.rpartition("/")
            pending[name][int(sample)] = completion
            if len(pending[name]) == settings.n:
                yield by_id[name], [each for _, each in sorted(pending.pop(name).items())]
            advance()


def references(questions: list[Question]) -> Answers:
    """The explanations that came with the data, as if a teacher had written them."""
    plain = prompts.Form("")
    for each in questions:
        text = prompts.target(each.explanation, each.answer, plain)
        yield each, [Completion(each.id, text, 0, True)] if each.explanation else []


@dataclass
class Taught:
    """What came of the answers; what was not chosen is only counted."""

    traces: dict[str, Trace] = field(default_factory=dict)  # by question id
    rejected: Counter[str] = field(default_factory=Counter)  # questions by reason
    refused: dict[str, list[str]] = field(default_factory=dict)  # question id -> why a sample could not be drawn
    drawn: int = 0
    tokens: int = 0
    costs: list[float] = field(default_factory=list)  # summed exactly, whatever the order in which they came


def choose_all(answers: Answers, settings: Distill, prompt: str) -> Taught:
    """One trace for each question with a right and sound sample; the others by reason."""
    teacher, revision = provenance(settings)
    found = Taught()
    for question, drawn in answers:
        found.drawn += len(drawn)
        found.tokens += sum(each.tokens for each in drawn)
        found.costs += [each.cost for each in drawn if each.cost]
        if problems := [each.problem for each in drawn if each.problem]:
            found.refused[question.id] = problems
        choice = choose(question, [each.text for each in drawn], settings.gates, settings.choose)
        if choice.sample is None:
            found.rejected[choice.reason] += 1
            continue
        taken = drawn[choice.sample]
        found.traces[question.id] = Trace(
            question_id=question.id,
            specialty=question.specialty,
            teacher=teacher,
            revision=revision,
            prompt=prompt,
            sample=choice.sample,
            n=len(drawn),
            correct=choice.correct,
            tokens=taken.tokens,
            cost=sum(each.cost for each in drawn),
            thinking=thinking_of(taken.text),
            target=taken.text.strip(),
        )
    return found


def provenance(settings: Distill) -> tuple[str, str]:
    """(teacher, revision): a folder by its md5, an endpoint by the name of its model."""
    engine = settings.teacher
    if isinstance(engine, Reference):
        return "reference", ""
    if isinstance(engine, FolderSettings):
        held = engine.holds if isinstance(engine, RayEngine) else engine
        return f"{held.type} {TEACHER}", lock.digest(TEACHER).md5
    return f"{engine.type} {engine.model}", engine.model


if __name__ == "__main__":
    task_main("distill", main, items=False)
