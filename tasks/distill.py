"""distill: the teacher answers, wrong answers are rejected, and the first right one becomes a trace to learn.

MedVLThinker samples its teacher n = 3 times at temperature 1 and keeps the first correct sample's thinking (code). The
sft baseline of all three papers learns from these traces, and so do the specialists.
"""

from collections import Counter, defaultdict

from grandrounds import files, runtime
from grandrounds.domain import prompts
from grandrounds.domain.answers import thinking_of, verify
from grandrounds.encoding import Encoder
from grandrounds.engines import local
from grandrounds.engines.protocol import Completion, Request
from grandrounds.params import Params
from grandrounds.records import MODALITIES, Difficulty, Question, Trace
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
    with stage_run("distill", item, params, inputs=inputs, outputs=[TRACES]) as run:
        questions = files.read(QUESTIONS, Question)
        if settings.questions == "filtered":
            kept = {row.question_id for path in FILTERED for row in files.read(path, Difficulty) if row.kept}
            questions = [each for each in questions if each.id in kept]
        if settings.teacher == "reference":
            samples = references(questions)
        else:
            samples = sampled(questions, params)
        traces, rejected = choose(questions, samples, settings.teacher)
        files.write(TRACES, traces, Trace)
        drawn = [each for some in samples.values() for each in some.values()]
        run.finish(
            {
                "questions": len(questions),
                "accepted": len(traces),
                "rejected": rejected,
                "teacher_accuracy": sum(row.correct for row in traces) / max(1, len(drawn)),
                "mean_tokens": sum(each.tokens for each in drawn) / max(1, len(drawn)),
                "by_specialty": dict(sorted(Counter(row.specialty for row in traces).items())),
            }
        )


def sampled(questions: list[Question], params: Params) -> Samples:
    """n answers of the teacher to each question."""
    settings = params.distill
    asked = prompts.form("reasoning", params.prompts.wording)
    requests = [
        Request(f"{each.id}/{sample}", each, asked, sample) for each in questions for sample in range(settings.n)
    ]
    model, processor = local.load(TEACHER, runtime.device(params), params.compute.precision)
    engine = local.LocalEngine(model, Encoder(processor), runtime.derive_seed(params.seed, "distill"))
    samples: Samples = defaultdict(dict)
    with progress(len(requests), "teacher samples") as advance:
        for completion in engine.generate(requests, settings.sampling):
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


def choose(questions: list[Question], samples: Samples, teacher: str) -> tuple[list[Trace], dict[str, int]]:
    """One trace for each question with a right sample; the others by reason."""
    traces: list[Trace] = []
    rejected = {"never_read": 0, "never_right": 0}
    for question in questions:
        drawn = [each for _, each in sorted(samples.get(question.id, {}).items())]
        reads = [verify(question, each.text) for each in drawn]
        right = [i for i, read in enumerate(reads) if read.correct]
        if not right:
            rejected["never_right" if any(read.extracted for read in reads) else "never_read"] += 1
            continue
        first = drawn[right[0]]
        traces.append(
            Trace(
                question_id=question.id,
                specialty=question.specialty,
                teacher=teacher,
                sample=right[0],
                n=len(drawn),
                correct=len(right),
                thinking=thinking_of(first.text),
                target=first.text.strip(),
            )
        )
    return traces, rejected


if __name__ == "__main__":
    task_main("distill", main, items=False)
