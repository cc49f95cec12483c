"""The data card: what the corpus was made from, under which licences, and what became of every row."""

from collections.abc import Mapping
from typing import Any

from grandrounds.reporting import markdown
from grandrounds.reporting.blocks import Row, Table
from grandrounds.reporting.escaping import inline
from grandrounds.reporting.numbers import count
from grandrounds.reporting.sections.summary import RESEARCH_ONLY

FEW = 30  # groups: with fewer, an interval over groups says little
COUNTS = ("rows", "left_out", "read", "kept", "duplicate", "quarantined", "leaked")
ACCOUNT = (
    "rows = left out + read; read = kept + duplicate + quarantined + leaked. What is left out, the source has and this "
    "corpus does not mean to have, such as questions in another language."
)
POLICIES = {
    "remove": "training questions were removed, because an evaluation set has the same question, picture or group. "
    "Evaluation sets are never altered.",
    "fail": "training questions are also in an evaluation set: the stage stops at the first.",
}


def data_card(metrics: Mapping[str, Any], policy: str) -> str:
    """`metrics` is what `curate` writes to its metrics.json, `policy` is curate.leakage."""
    sources, splits = metrics["sources"], metrics["splits"]
    leaked = sum(each["leaked"] for each in sources.values())
    parts = [
        "# Data card",
        inline(RESEARCH_ONLY),
        "## Sources\n\n" + markdown.table(sources_table(sources)),
        _notes(sources),
        "## What became of the rows\n\n" + markdown.table(account_table(sources)),
        _left_out(sources),
        _reasons(metrics.get("quarantine") or {}),
        _labelled(sources),
        "## Splits\n\n" + markdown.table(_splits(splits)),
        f"## Leakage\n\n{leaked} {POLICIES[policy]}",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def handing_on(source: Mapping[str, Any]) -> str:
    """Whether questions and pictures of a source may be handed on, and what was made from them."""
    if source["redistribute"]:
        return "yes" if source["derivatives"] else "yes, unchanged; NOT what is derived from it"
    return "NO" if source["derivatives"] else "NO, nor what is derived from it"


def sources_table(sources: Mapping[str, Any]) -> Table:
    rows = [
        Row([name, f"{each['name']}: {each['place']}", each["role"], each["licence"], handing_on(each)])
        for name, each in sources.items()
    ]
    return Table("Sources and licences", ["source", "what", "feeds", "licence", "may be handed on"], rows)


def _notes(sources: Mapping[str, Any]) -> str:
    told = {name: [part for part in (each["citation"], each["note"]) if part] for name, each in sources.items()}
    return "\n".join(f"- {inline(name)}: {inline('; '.join(parts))}." for name, parts in told.items() if parts)


def account_table(sources: Mapping[str, Any]) -> Table:
    rows = [Row([name, *(count(each[key]) for key in COUNTS)]) for name, each in sources.items()]
    if len(rows) > 1:
        rows.append(Row(["all", *(count(sum(each[key] for each in sources.values())) for key in COUNTS)], "best"))
    return Table("Rows", ["source", *(key.replace("_", " ") for key in COUNTS)], rows, caption=ACCOUNT)


def _left_out(sources: Mapping[str, Any]) -> str:
    reasons = [(name, reason, n) for name, each in sources.items() for reason, n in each["why_left_out"].items()]
    return "\n".join(f"- {inline(name)}: {count(n)} left out: {inline(reason)}." for name, reason, n in reasons)


def _reasons(quarantine: Mapping[str, int]) -> str:
    return "## Quarantine\n\n" + markdown.table(reasons_table(quarantine)) if quarantine else ""


def reasons_table(quarantine: Mapping[str, int]) -> Table:
    ranked = sorted(quarantine.items(), key=lambda pair: (-pair[1], pair[0]))
    rows = [Row([reason, count(n)]) for reason, n in ranked]
    caption = "Each row, with its file, line and column, is in quarantine.parquet beside this card."
    return Table("Why rows were quarantined", ["reason", "rows"], rows, caption=caption)


def _labelled(sources: Mapping[str, Any]) -> str:
    rows = [
        Row([name, by, f"{100 * share:.1f} %"])
        for name, each in sources.items()
        for by, share in (each.get("labelled") or {}).items()
    ]
    if not rows:
        return ""
    caption = "A rule is a row of curate.specialties, or of the table that ships (grandrounds/domain/labelling.py)."
    table = Table("What decided the specialty", ["source", "decided by", "questions"], rows, caption=caption)
    return "## Specialties\n\n" + markdown.table(table)


def _splits(splits: Mapping[str, Any]) -> Table:
    rows = [
        Row([name, count(each["n"]), count(each["groups"]), count(each["by_modality"].get("image_text", 0))])
        for name, each in splits.items()
    ]
    few = [name for name in ("test", "unseen") if 0 < splits.get(name, {}).get("groups", 0) < FEW]
    caption = f"Fewer than {FEW} groups in {' and '.join(few)}: intervals there mean little." if few else ""
    return Table("Questions by split", ["split", "questions", "groups", "with a picture"], rows, caption=caption)
