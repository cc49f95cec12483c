"""Judge every arm's predictions: verdicts of each judge, and the figures of each arm with intervals.

Accuracy is the verifier's, which `predict` wrote beside each answer; the judges add a final and a reasoning score.
Exactly the arms of params.yaml are read: a file that an arm of an earlier recipe left behind is not. Predictions of
other questions than those in data/curated are refused, with the file and the row.
"""

from collections import Counter
from collections.abc import Sequence

from grandrounds import asking, files
from grandrounds.domain.scoring import Graded, summarise
from grandrounds.engines import judges, replies
from grandrounds.engines.bertscore import BertScorer
from grandrounds.errors import UserError
from grandrounds.params import Params
from grandrounds.records import Prediction, Question, Verdict
from grandrounds.tracking.progress import progress
from grandrounds.tracking.stage import stage_run, task_main

PREDICTIONS = "data/predictions"
VERDICTS = "data/verdicts.parquet"

Key = tuple[str, str, str]  # split, question, prompt


def main(item: str | None, params: Params) -> None:
    curated = [f"data/curated/{split}.parquet" for split in params.predict.splits]
    # a missing key ends the stage before anything is read
    kept = replies.folder("judge")
    engines = [judges.make(name, each, params.judge.prompt, kept) for name, each in params.judge.judges.items()]
    inputs = [*curated, asking.BENCHMARKS, PREDICTIONS]
    with stage_run("judge", None, params, inputs=inputs, outputs=[VERDICTS]) as run:
        questions = [question for path in asking.sets(params).values() for question in files.read(path, Question)]
        expected = plan(questions, params)
        predictions = [row for arm in params.predict.arms for row in read(arm, expected)]
        verdicts = judged(engines, questions, predictions)
        files.write(VERDICTS, verdicts, Verdict)
        graded = bertscores(questions, predictions, params)
        run.finish(summarise(questions, predictions, verdicts, params.judge, params.seed, graded))


def plan(questions: Sequence[Question], params: Params) -> Counter[Key]:
    """How many answers of an arm there have to be for every question and prompt."""
    found: Counter[Key] = Counter()
    rounds = list(asking.rounds(params))
    for question in questions:
        for each in rounds:
            if each.split == question.split:
                found[question.split, question.id, each.prompt] = each.samples
    return found


def read(arm: str, expected: Counter[Key]) -> list[Prediction]:
    """The arm's predictions: those that the plan asks for, and no other."""
    path = f"{PREDICTIONS}/{arm}.parquet"
    again = f"these predictions belong to other data; run `dvc repro predict@{arm}`"
    seen: Counter[Key] = Counter()
    rows = files.read(path, Prediction)
    for number, row in enumerate(rows):
        key = (row.split, row.question_id, row.prompt)
        where = f"{path}: row {number}: question '{row.question_id}' ({row.split}, {row.prompt})"
        if row.arm != arm:
            raise UserError(f"{where} was answered by arm '{row.arm}', not '{arm}'; {again}")
        if key not in expected:
            raise UserError(f"{where} is not asked in data/curated/{row.split}.parquet; {again}")
        if seen[key] == expected[key]:
            raise UserError(f"{where} is there {'twice' if seen[key] == 1 else 'too often'}; {again}")
        seen[key] += 1
    if lost := expected - seen:
        split, question, prompt = min(lost)
        raise UserError(
            f"{path}: {lost.total()} of {expected.total()} predictions are missing, the first for question "
            f"'{question}' ({split}, {prompt}); {again}"
        )
    return rows


def judged(
    engines: Sequence[judges.Judge], questions: Sequence[Question], predictions: Sequence[Prediction]
) -> list[Verdict]:
    """Every judge's verdict on every prediction: judge by judge, each in the predictions' order.

    Samples for pass@k and the majority are the verifier's alone to score: a judge's calls would be many times as many.
    """
    by_id = {question.id: question for question in questions}
    cases = [(by_id[each.question_id], each) for each in predictions if each.prompt != asking.SAMPLED]
    with progress(len(cases) * len(engines), "verdicts") as advance:
        return [verdict for engine in engines for verdict in engine.judge(cases, advance)]


def bertscores(questions: Sequence[Question], predictions: Sequence[Prediction], params: Params) -> Graded:
    """BERTScore (F1) of every open-ended answer that could be read, in the benchmarks that ask for it."""
    wanted = {name for name, each in params.benchmarks.items() if each.metric == "bertscore"}
    by_id = {q.id: q for q in questions if q.split in wanted and q.kind == "open_ended"}
    rows = [p for p in predictions if p.question_id in by_id and p.extracted and p.prompt != asking.SAMPLED]
    if not rows:
        return {}
    scores = BertScorer().f1([row.answer for row in rows], [by_id[row.question_id].answer for row in rows])
    keys = ((row.arm, row.split, row.prompt, row.question_id) for row in rows)
    return dict(zip(keys, scores, strict=True))


if __name__ == "__main__":
    task_main("judge", main, items=False)
