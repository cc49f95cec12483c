"""Judge every arm's predictions: verdicts of each judge, and the figures of each arm with intervals.

Accuracy is the verifier's, which `predict` wrote beside each answer; the judges add a final and a reasoning score.
Exactly the arms of params.yaml are read: a file that an arm of an earlier recipe left behind is not. Predictions of
other questions than those in data/curated are refused, with the file and the row.
"""

from collections.abc import Sequence

from grandrounds import files
from grandrounds.domain.scoring import summarise
from grandrounds.engines import judges, replies
from grandrounds.errors import UserError
from grandrounds.params import Params
from grandrounds.records import Prediction, Question, Verdict
from grandrounds.tracking.progress import progress
from grandrounds.tracking.stage import stage_run, task_main

PREDICTIONS = "data/predictions"
VERDICTS = "data/verdicts.parquet"


def main(item: str | None, params: Params) -> None:
    curated = {split: f"data/curated/{split}.parquet" for split in params.predict.splits}
    # a missing key ends the stage before anything is read
    kept = replies.folder("judge")
    engines = [judges.make(name, each, params.judge.prompt, kept) for name, each in params.judge.judges.items()]
    with stage_run("judge", None, params, inputs=[*curated.values(), PREDICTIONS], outputs=[VERDICTS]) as run:
        questions = [question for path in curated.values() for question in files.read(path, Question)]
        predictions = [row for arm in params.predict.arms for row in read(arm, questions, params.predict.prompts)]
        verdicts = judged(engines, questions, predictions)
        files.write(VERDICTS, verdicts, Verdict)
        run.finish(summarise(questions, predictions, verdicts, params.judge, params.seed))


def read(arm: str, questions: Sequence[Question], prompts: Sequence[str]) -> list[Prediction]:
    """The arm's predictions: one for every question and prompt, and no other."""
    path = f"{PREDICTIONS}/{arm}.parquet"
    again = f"these predictions belong to other data; run `dvc repro predict@{arm}`"
    expected = {(question.split, question.id, prompt) for question in questions for prompt in prompts}
    seen: set[tuple[str, str, str]] = set()
    rows = files.read(path, Prediction)
    for number, row in enumerate(rows):
        key = (row.split, row.question_id, row.prompt)
        where = f"{path}: row {number}: question '{row.question_id}' ({row.split}, {row.prompt})"
        if row.arm != arm:
            raise UserError(f"{where} was answered by arm '{row.arm}', not '{arm}'; {again}")
        if key not in expected:
            raise UserError(f"{where} is not asked in data/curated/{row.split}.parquet; {again}")
        if key in seen:
            raise UserError(f"{where} is there twice; {again}")
        seen.add(key)
    if lost := expected - seen:
        split, question, prompt = min(lost)
        raise UserError(
            f"{path}: {len(lost)} of {len(expected)} predictions are missing, the first for question '{question}' "
            f"({split}, {prompt}); {again}"
        )
    return rows


def judged(
    engines: Sequence[judges.Judge], questions: Sequence[Question], predictions: Sequence[Prediction]
) -> list[Verdict]:
    """Every judge's verdict on every prediction: judge by judge, each in the predictions' order."""
    by_id = {question.id: question for question in questions}
    cases = [(by_id[prediction.question_id], prediction) for prediction in predictions]
    with progress(len(cases) * len(engines), "verdicts") as advance:
        return [verdict for engine in engines for verdict in engine.judge(cases, advance)]


if __name__ == "__main__":
    task_main("judge", main, items=False)
