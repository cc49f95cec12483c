"""Questions: what was curated, how hard it was for the base, and which traces the teacher gave."""

from collections.abc import Mapping
from typing import Any

from grandrounds.params import EmbeddedModel, GeminiEngine, HubModel, OpenAIEngine, Reference
from grandrounds.records import KINDS, MODALITIES, SPECIALTIES, SPLITS
from grandrounds.reporting.blocks import Block, Figure, Row, Section, Table, Text, missing
from grandrounds.reporting.collect import Run
from grandrounds.reporting.numbers import MISSING, count, decimal, number, percent, words
from grandrounds.reporting.plots import bars
from grandrounds.reporting.sections import corpus

TAUGHT = (
    "pretrain is no clean textbook: some rules are rare or missing, some are misquoted more or less often, and under "
    "the plain prompt most thoughts jump to a conclusion instead of working it out. So supervised training can gain by "
    "stating facts rightly, and reinforcement by choosing, among ways that the base already knows, the one that pays: "
    "read the length of completions beside the reward. That is a property of this corpus, made to be seen in minutes."
)


def data(run: Run) -> Section:
    metrics = run.metrics.get("curate", {})
    splits: Mapping[str, Any] = metrics.get("splits") or {}
    if not splits:
        return Section("data", "Data", [missing("The audit of the curated questions")])
    named = [name for name in SPLITS if name in splits] + sorted(set(splits) - set(SPLITS))
    groups = [("by_specialty", SPECIALTIES), ("by_modality", MODALITIES), ("by_kind", KINDS)]
    columns, fields = ["split", "questions", "groups"], []
    for key, order in groups:
        found = {name for split in splits.values() for name in (split.get(key) or {})}
        for name in [*(n for n in order if n in found), *sorted(found - set(order))]:
            columns.append(words(name))
            fields.append((key, name))
    rows = []
    for name in named:
        split = splits[name]
        # a split that lists the others but not this one has none of it
        cells = [count((split.get(key) or {}).get(each, 0 if split.get(key) else None)) for key, each in fields]
        rows.append(Row([name, count(split.get("n")), count(split.get("groups")), *cells]))
    dropped = metrics.get("dropped") or {}
    told = "; ".join(f"{words(reason)} {count(dropped[reason])}" for reason in sorted(dropped)) or "none"
    leaks = number(metrics.get("leaks"))
    blocks: list[Block] = [
        Table(
            "Questions by split, specialty, modality and kind",
            columns,
            rows,
            caption="n counts questions. A group (a slab, a family of vignettes) lies in one split whole, so that no "
            "split has seen another's. Only val chooses anything; pretrain trains the embedded base and teacher.",
        ),
        Text(
            f"Of {count(metrics.get('read'))} questions read {count(metrics.get('kept'))} were kept; dropped: {told}.",
            lead="Nothing is dropped silently.",
        ),
    ]
    if isinstance(run.params.base.model, EmbeddedModel):
        blocks.append(Text(TAUGHT, lead="What the embedded base is taught."))
    if leaks is None:
        blocks.append(missing("The leak check between splits"))
    elif leaks:
        blocks.append(
            Text(f"{count(leaks)} leaks between splits: figures on test are not to be trusted.", tone="warning")
        )
    else:
        blocks.append(Text("The leak check found no question, image or group in two splits.", tone="note"))
    return Section("data", "Data", [*blocks, *corpus.leaks(run), *corpus.card(run)])


def difficulty(run: Run) -> Section:
    filters: dict[str, Any] = {
        name: run.metrics[f"filter/{name}"] for name in run.params.filter.items if f"filter/{name}" in run.metrics
    }
    if not filters:
        return Section("difficulty", "Difficulty", [missing("Pass counts of the filter stage")])
    keep, n = run.params.filter.keep, run.params.filter.n
    stopped = sum(int(number(metrics.get("censored")) or 0) for metrics in filters.values())
    drawings, table = [], []
    for name, metrics in filters.items():
        histogram = [int(value) for value in metrics.get("histogram") or [] if number(value) is not None]
        if len(histogram) == n + 1:
            drawings.append(bars(words(name), histogram, (keep.min, keep.max), "right answers", "questions"))
            table.append(Row([words(name), *map(count, histogram)]))
    blocks: list[Block] = []
    if drawings:
        blocks.append(
            Figure(
                f"How often {run.params.filter.model} answers each training question rightly in {n} samples",
                drawings,
                f"Questions with {keep.min} to {keep.max} right answers of {n} are kept (shaded): below, "
                "reinforcement learning finds nothing to reward; above, nothing to improve. n counts questions of "
                "the train split"
                + (f"; {count(stopped)} that were left early are not among them." if stopped else "."),
                Table("Questions by right answers", ["modality", *map(str, range(n + 1))], table),
            )
        )
    blocks.append(_bands(filters))
    if stopped:
        blocks.append(Text(_saved(filters, stopped), tone="note"))
    lost = [name for name in run.params.filter.items if name not in filters]
    blocks += [missing(f"The filter of {words(name)} questions") for name in lost]
    kinds = _by_kind(run)
    return Section("difficulty", "Difficulty", [*blocks, *([kinds] if kinds else [])])


def _saved(filters: Mapping[str, Mapping[str, Any]], stopped: int) -> str:
    shares = ", ".join(f"{words(name)} {percent(metrics.get('saved'))} %" for name, metrics in filters.items())
    return (
        f"{count(stopped)} questions were left as soon as the rest of their samples could not change the decision "
        f"(samples saved: {shares}). Their counts are censored: they are in the table, and in no histogram."
    )


def _bands(filters: Mapping[str, Mapping[str, Any]]) -> Table:
    rows = []
    for name, metrics in filters.items():
        rows.append(
            Row(
                [
                    words(name),
                    *_band(metrics),
                    percent(metrics.get("extraction_rate")),
                    percent(metrics.get("accuracy")),
                ],
                "best",
            )
        )
        by = metrics.get("by_specialty") or {}
        for specialty in [s for s in SPECIALTIES if s in by]:
            rows.append(Row(["· " + words(specialty), *_band(by[specialty] or {}), MISSING, MISSING]))
    columns = ["questions", "total", "too hard", "kept", "too easy", "kept, %", "answer found, %", "samples right, %"]
    return Table(
        "Too hard, kept, too easy",
        columns,
        rows,
        caption="n counts questions, each once. “Answer found” is the share of samples from which the strict reader "
        "got an answer: an answer that could not be read is counted apart from a wrong one.",
    )


def _band(counts: Mapping[str, Any]) -> list[str]:
    total, kept = number(counts.get("questions")), number(counts.get("kept"))
    share = kept / total if total and kept is not None else None
    return [count(total), count(counts.get("too_hard")), count(kept), count(counts.get("too_easy")), percent(share)]


def _by_kind(run: Run) -> Table | None:
    rows = []
    for modality, found in run.difficulties.items():
        for kind in KINDS:
            of = [row for row in found if row.kind == kind]
            if of:
                hard, easy = sum(r.reason == "too_hard" for r in of), sum(r.reason == "too_easy" for r in of)
                kept = sum(r.kept for r in of)
                right = sum(r.correct for r in of) / max(1, sum(r.drawn for r in of))
                cells = [f"{words(modality)}: {words(kind)}", *map(count, (len(of), hard, kept, easy))]
                rows.append(Row([*cells, percent(kept / len(of)), percent(right)]))
    columns = ["questions", "total", "too hard", "kept", "too easy", "kept, %", "samples right, %"]
    return Table("The same by kind of question", columns, rows, caption="n counts questions.") if rows else None


CHOSEN = {
    "first": "first right sample", "shortest": "shortest right sample", "longest": "longest right sample",
    "facts": "right sample with most key facts",
}  # fmt: skip


def _teacher(run: Run) -> str:
    engine, model = run.params.distill.teacher, run.params.base.model
    if isinstance(engine, OpenAIEngine | GeminiEngine):
        return engine.model
    if isinstance(engine, Reference):
        return "the data's own explanations"
    return model.teacher.repository if isinstance(model, HubModel) else "models/teacher"


def distillation(run: Run) -> Section:
    metrics = run.metrics.get("distill", {})
    title = "Distillation"
    if number(metrics.get("questions")) is None:
        return Section("distillation", title, [missing("The teacher's traces")])
    questions, accepted = number(metrics["questions"]), number(metrics.get("accepted"))
    rows = [
        Row([f"accepted: {CHOSEN[run.params.distill.choose]}", count(accepted), _share(accepted, questions)], "best")
    ]
    rejected = metrics.get("rejected") or {}
    for reason in sorted(rejected, key=lambda name: (-(number(rejected[name]) or 0), name)):
        rows.append(
            Row([f"rejected: {words(reason)}", count(rejected[reason]), _share(number(rejected[reason]), questions)])
        )
    teacher = _teacher(run)
    blocks: list[Block] = [
        Table(
            "What became of the questions put to the teacher",
            ["outcome", "questions", "%"],
            rows,
            caption=f"n counts the {count(questions)} questions of distill.questions = "
            f"{run.params.distill.questions}; each is sampled {run.params.distill.n} times by {teacher}, and one "
            "right sample that passes the gates becomes the trace.",
        ),
        Text(
            f"Of all samples {percent(metrics.get('teacher_accuracy'))} % are right; an accepted trace has "
            f"{decimal(metrics.get('mean_tokens'), 1)} tokens on average."
        ),
    ]
    by = metrics.get("by_specialty") or {}
    cells = [Row([words(name), count(by[name])]) for name in SPECIALTIES if name in by]
    if cells:
        blocks.append(Table("Traces by specialty", ["specialty", "accepted"], cells))
    return Section("distillation", title, blocks)


def _share(part: float | None, whole: float | None) -> str:
    return percent(part / whole) if part is not None and whole else MISSING
