"""What the data card says, as tables, and questions that were taken from training beside those that they repeat."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from grandrounds.records import Question
from grandrounds.reporting import datacard
from grandrounds.reporting.blocks import Block, Pair, Side, Table, Text
from grandrounds.reporting.browser import cut, thumbnail
from grandrounds.reporting.collect import Run
from grandrounds.reporting.numbers import count, decimal

EACH = 3  # pairs shown of one kind
LONGEST = 700  # letters of a text in a pair
CARD = ("name", "place", "role", "licence", "redistribute", "derivatives", *datacard.COUNTS)


def card(run: Run) -> list[Block]:
    """Sources with their licences, the account of all rows, and why rows were quarantined."""
    metrics = run.metrics.get("curate", {})
    sources: Mapping[str, Any] = metrics.get("sources") or {}
    if not sources or any(name not in (each or {}) for each in sources.values() for name in CARD):
        return []
    tables: list[Table] = [datacard.sources_table(sources), datacard.account_table(sources)]
    if metrics.get("quarantine"):
        tables.append(datacard.reasons_table(metrics["quarantine"]))
    return list(tables)


def leaks(run: Run) -> list[Block]:
    """Up to EACH removed questions of each kind of leak, beside the question of an evaluation set that each repeats."""
    removed = [each for each in run.audit.get("removed") or [] if isinstance(each, Mapping)]
    if not removed:
        return []
    kinds = Counter(str(each.get("by")) for each in removed)
    told = ", ".join(f"by {kind} {count(n)}" for kind, n in sorted(kinds.items()))
    blocks: list[Block] = [
        Text(
            f"{count(len(removed))} training questions were removed because an evaluation set asks them too ({told}). "
            f"Up to {EACH} of each kind stand below, beside what they repeat; all are in data/curated/audit.json.",
            lead="Leaks, removed.",
        )
    ]
    known = {question.id: question for found in run.questions.values() for question in found.values()}
    shown: Counter[str] = Counter()
    for each in removed:
        kind, kept = str(each.get("by")), known.get(str(each.get("of")))
        # only where both may be handed on; only the first of each kind have their text in the audit
        open_ = kept is not None and run.may_show(kept.source) and run.may_show(str(each.get("source")))
        if kept is None or not open_ or "text" not in each or shown[kind] >= EACH:
            continue
        shown[kind] += 1
        blocks.append(_pair(run, each, kept, kind))
    return blocks


def _pair(run: Run, removed: Mapping[str, Any], kept: Question, kind: str) -> Pair:
    left = Side(
        f"removed: {removed.get('removed')}",
        cut(str(removed["text"]), LONGEST),
        thumbnail(run.root, removed.get("images") or []),
    )
    right = Side(
        f"kept in {removed.get('split')}: {kept.id}", cut(kept.question, LONGEST), thumbnail(run.root, kept.images)
    )
    return Pair(f"The same {kind} (similarity {decimal(removed.get('similarity'))})", left, right)
