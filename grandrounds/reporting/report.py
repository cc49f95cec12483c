"""The report of a run: one HTML page that stands alone, the same as Markdown, and a model card for each arm."""

from pathlib import Path
from typing import Any

from grandrounds import files
from grandrounds.params import Params
from grandrounds.reporting import html, markdown
from grandrounds.reporting.blocks import Section, numbered
from grandrounds.reporting.cards import card
from grandrounds.reporting.collect import Run, collect
from grandrounds.reporting.sections import (
    ablations,
    arms,
    browse,
    cases,
    comparisons,
    data,
    environment,
    lineage,
    merging,
    people,
    pipeline,
    published,
    significance,
    specialties,
    summary,
    training,
)

TITLE = "Medical vision-language models: trained, merged, reinforced, judged"


def write_report(root: Path, params: Params, lineage: dict[str, Any] | None, out: Path | None = None) -> None:
    """Write report.html, report.md and cards/<arm>.md into `out` (default: reports/ of the project folder `root`).

    Reads what the stages left under root/reports and root/data; a part that is not there is named as
    "not in this run" in its section.
    `lineage` is the champion's tree: {"name", "stage", "md5", "commit", "params", "inputs": [the same, ...]}.
    Same inputs, same bytes. Raises UserError for a file that is there and cannot be read.
    """
    run = collect(Path(root), params, lineage)
    out = Path(out) if out is not None else Path(root) / "reports"
    sections = numbered(build(run))
    said = summary.statement(params)
    _write(out / "report.html", html.page(TITLE, said, sections))
    _write(out / "report.md", markdown.document(TITLE, said, sections))
    for arm in params.predict.arms:
        _write(out / "cards" / f"{arm}.md", card(run, arm))


def build(run: Run) -> list[Section]:
    """All sections, in the order in which they are read."""
    return [
        summary.section(run),
        pipeline.section(run),
        data.data(run),
        data.difficulty(run),
        data.distillation(run),
        training.section(run),
        merging.section(run),
        arms.section(run),
        specialties.section(run),
        comparisons.rlvr(run),
        comparisons.prompts(run),
        comparisons.kinds(run),
        significance.section(run),
        ablations.section(run),
        people.section(run),
        lineage.section(run),
        published.section(run),
        cases.section(run),
        browse.section(run),
        environment.environment(run),
        environment.glossary(run),
    ]


def _write(path: Path, text: str) -> None:
    # lone surrogates cannot be encoded; escaping shows them, and this is the guard for what it does not print
    with files.replacing(path) as temporary:
        Path(temporary).write_text(text, encoding="utf-8", errors="backslashreplace")
