"""The case browser: as many questions as there is room for, with what every arm said to each."""

from collections import defaultdict

from grandrounds.records import Prediction, Verdict
from grandrounds.reporting.blocks import Browser, Section, Text, missing
from grandrounds.reporting.browser import payload
from grandrounds.reporting.collect import Run
from grandrounds.reporting.numbers import count
from grandrounds.reporting.sections.cases import KEPT_BACK

MIB = 2**20


def section(run: Run) -> Section:
    """Answers under the reasoning prompt, of every set; `publish.case_megabytes` says how much room they may take."""
    title = "Case browser"
    every = [question for split in run.questions.values() for question in split.values()]
    allowed = [question for question in every if run.may_show(question.source)]
    answers: dict[str, dict[str, Prediction]] = {
        arm: {row.question_id: row for row in rows if row.prompt == "reasoning"}
        for arm, rows in run.predictions.items()
    }
    total = sum(map(len, answers.values()))
    notes = [Text(KEPT_BACK, tone="note")] if len(allowed) < len(every) else []
    room = round(run.params.publish.case_megabytes * MIB)
    if not room:
        return Section("browse", title, [Text("Turned off: publish.case_megabytes is 0.", tone="note")])
    if not allowed or not total:
        return Section("browse", title, notes or [missing("Questions with predictions")])
    verdicts: dict[tuple[str, str], list[Verdict]] = defaultdict(list)
    for row in run.verdicts:
        if row.prompt == "reasoning":
            verdicts[row.arm, row.question_id].append(row)
    titles = {arm: run.title(arm) for arm in run.params.predict.arms if arm in answers}
    made, cases, shown = payload(allowed, answers, verdicts, titles, run.root, room)
    said = (
        f"{count(cases)} of {count(len(every))} questions, {count(shown)} of {count(total)} answers under the "
        "reasoning prompt; all of them are in data/predictions and data/verdicts.parquet."
    )
    if cases < len(every):
        said += (
            " They were taken in turn from every set, specialty and outcome (all, some or no arm right), by the hash "
            "of their id: rare outcomes come as often as common ones, so counts here are no accuracies."
        )
    keys = "Keys, when the browser has the focus: ← and → turn the page, / goes to the search."
    return Section("browse", title, [Text(said, tone="note"), Text(keys, tone="note"), *notes, Browser(made)])
