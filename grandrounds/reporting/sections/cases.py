"""Sample cases: drawn by the hash of a question's id, so that nobody picked them."""

import hashlib
from collections.abc import Iterable

from grandrounds.records import MODALITIES, Prediction, Question
from grandrounds.reporting.blocks import Block, Case, Reply, Section, Text, missing
from grandrounds.reporting.browser import cut, images_of, thinking, thumbnail
from grandrounds.reporting.collect import Run
from grandrounds.reporting.numbers import words
from grandrounds.reporting.stages import reinforced

EACH = 3  # cases of each modality, right and wrong
LONGEST = 1500  # letters shown of one text
KEPT_BACK = (
    "Questions of sources whose licence forbids handing them on, or does not say, are not shown, and neither are their "
    "pictures (data/curated/card.md)."
)


def section(run: Run) -> Section:
    title = "Sample cases"
    best = run.best()
    tested = run.questions.get("test", {})
    questions = {id_: question for id_, question in tested.items() if run.may_show(question.source)}
    if tested and not questions:
        return Section("cases", title, [Text(KEPT_BACK, tone="note")])
    answers = {arm: _answers(rows) for arm, rows in run.predictions.items()}
    if best is None or not questions or not answers.get(best):
        return Section("cases", title, [missing("Test questions with predictions of the best arm")])
    shown = _arms(run, best, answers)
    remarks = {
        (row.arm, row.question_id): row.evaluation
        for row in run.verdicts
        if row.split == "test" and row.prompt == "reasoning"
    }
    chosen = _chosen(questions, answers[best])
    blocks: list[Block] = [
        Text(
            f"Up to {EACH} text and {EACH} image questions that {run.title(best)} got right, and as many that it got "
            "wrong, drawn by the hash of their id: nobody picked them, and half of them being wrong says nothing "
            "about its accuracy. Questions, thinking and answers are shown as they were written; what a model wrote "
            "may be false.",
            tone="note",
        )
    ]
    if len(questions) < len(tested):
        blocks.append(Text(KEPT_BACK, tone="note"))
    for index, question in enumerate(chosen, 1):
        replies = [_reply(run, arm, answers[arm][question.id], remarks) for arm in shown if question.id in answers[arm]]
        image = thumbnail(run.root, question.images)
        blocks.append(
            Case(
                f"{index}. {words(question.specialty)}: {question.topic} ({words(question.modality)}, "
                f"{words(question.kind)})",
                cut(question.question, LONGEST),
                [cut(option, LONGEST) for option in question.options],
                cut(question.answer, LONGEST),
                replies,
                image,
                images_of(question),
                cut(question.explanation, LONGEST),
            )
        )
        if question.image and not image:
            blocks.append(missing(f"The image of case {index}"))
    return Section("cases", title, blocks)


def _answers(rows: Iterable[Prediction]) -> dict[str, Prediction]:
    return {row.question_id: row for row in rows if row.split == "test" and row.prompt == "reasoning"}


def _arms(run: Run, best: str, answers: dict[str, dict[str, Prediction]]) -> list[str]:
    """Base, SFT, the best arm with RL in it, and the best arm: those that have predictions, each once."""
    rl = run.best([arm for arm in run.arms if reinforced(run.params, arm)])
    return [arm for arm in dict.fromkeys(("base", "sft", rl, best)) if arm and answers.get(arm)]


def _chosen(questions: dict[str, Question], answers: dict[str, Prediction]) -> list[Question]:
    """Right and wrong, text and image; a specialty comes again only when the others have had their turn."""
    order = sorted(questions.values(), key=lambda q: hashlib.sha256(q.id.encode()).hexdigest())
    chosen: list[Question] = []
    for modality in MODALITIES:
        for right in (True, False):
            pool = [q for q in order if q.modality == modality and q.id in answers and answers[q.id].correct == right]
            turns: dict[str, int] = {}
            ranked = []
            for place, question in enumerate(pool):
                turns[question.topic] = turns.get(question.topic, 0) + 1
                ranked.append((turns[question.topic], place, question))
            chosen += [question for _, _, question in sorted(ranked, key=lambda each: each[:2])[:EACH]]
    return chosen


def _reply(run: Run, arm: str, row: Prediction, remarks: dict[tuple[str, str], str]) -> Reply:
    verdict = "right" if row.correct else "wrong" if row.extracted else "unparsed"
    return Reply(
        run.title(arm),
        cut(thinking(row.completion), LONGEST),
        cut(row.answer, LONGEST),
        verdict,
        cut(remarks.get((arm, row.question_id), ""), LONGEST),
    )
