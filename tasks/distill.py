"""distill: the teacher answers, wrong and unsound answers are rejected, and one right one becomes a trace to learn.

MedVLThinker samples its teacher n = 3 times at temperature 1 and keeps the first correct sample's thinking (code). The
sft baseline of all three papers learns from these traces, and so do the specialists. Each trace says where it is from.
"""

from collections import Counter, defaultdict

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
Samples = dict[str, dict[int, Completion]]  # question id -> sample number -> completion
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
        samples = (
            references(questions) if isinstance(settings.teacher, Reference) else sampled(questions, params, before)
        )
        traces, rejected = chosen(questions, samples, settings, prompts.digest(forms.read(params.prompts)))
        files.write(TRACES, traces, Trace)
        drawn = [each for some in samples.values() for each in some.values()]
        refused = {each.id: each.problem for each in drawn if each.problem}
        run.warn(*(f"question {name.rpartition('/')[0]}: {problem}" for name, problem in refused.items()))
        run.finish(
            {
                "questions": len(questions),
                "accepted": len(traces),
                "rejected": rejected,
                "teacher_accuracy": sum(row.correct for row in traces) / max(1, len(drawn)),
                "mean_tokens": sum(each.tokens for each in drawn) / max(1, len(drawn)),
                "cost": sum(each.cost for each in drawn),
                "refused": len(refused),
                "by_specialty": dict(sorted(Counter(row.specialty for row in traces).items())),
            }
        )


def sampled(questions: list[Question], params: Params, before: Journal) -> Samples:
    """n answers of the teacher to each question; what a run that was interrupted had drawn is in `before`."""
    settings = params.distill
    assert not isinstance(settings.teacher, Reference)
    asked = prompts.form("reasoning", forms.read(params.prompts))
    requests = [
        Request(f"{each.id}/{sample}", each, asked, sample) for each in questions for sample in range(settings.n)
    ]
    seed = runtime.derive_seed(params.seed, "distill")
    engine = factory.make(settings.teacher, TEACHER, params, seed, "distill.teacher")
    samples: Samples = defaultdict(dict)
    with progress(len(requests), "teacher samples") as advance:
        for completion in before.generate(engine, requests, settings.sampling):
            question_id, _, sample = completion.id.rpartition("/")
            samples[question_id][int(sample)] = completion
            advance()
    return samples


def references(questions: list[Question]) -> Samples:
    """The explanations that came with the data, as if a teacher had written them."""
    plain = prompts.Form("")
    return {
        each.id: {0: Completion(each.id, prompts.target(each.explanation, each.answer, plain), 0, True)}
        for each in questions
        if each.explanation
    }


def chosen(
    questions: list[Question], samples: Samples, settings: Distill, prompt: str
) -> tuple[list[Trace], dict[str, int]]:
    """One trace for each question with a right and sound sample; the others by reason."""
    teacher, revision = provenance(settings)
    traces: list[Trace] = []
    rejected: Counter[str] = Counter()
    for question in questions:
        drawn = [each for _, each in sorted(samples.get(question.id, {}).items())]
        choice = choose(question, [each.text for each in drawn], settings.gates, settings.choose)
        if choice.sample is None:
            rejected[choice.reason] += 1
            continue
        taken = drawn[choice.sample]
        traces.append(
            Trace(
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
        )
    return traces, dict(sorted(rejected.items()))


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
