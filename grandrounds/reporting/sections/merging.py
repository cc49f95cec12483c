"""How far the specialists disagree before they are merged, and what the merge loses."""

from collections import defaultdict
from typing import Any

from grandrounds.domain.conflicts import kind_of, mean_by
from grandrounds.records import Conflict
from grandrounds.reporting.blocks import Block, Figure, Row, Section, Table, Text, missing
from grandrounds.reporting.collect import Run
from grandrounds.reporting.numbers import MISSING, count, decimal, number, percent, words
from grandrounds.reporting.plots import heat
from grandrounds.reporting.sections import merges

Pair = dict[str, Any]


def section(run: Run) -> Section:
    blocks: list[Block] = []
    for name in run.params.merge.items:
        pairs = _pairs(run, name)
        if pairs:
            blocks += _conflicts(run, name, pairs)
        else:
            blocks.append(missing(f"The conflict report of the merge “{words(name)}”"))
        blocks += merges.searched(run, name)
    blocks += merges.before_and_after(run)
    rows = [_merge(run, name) for name in run.params.merge.items if f"merge/{name}" in run.metrics]
    if rows:
        blocks.append(
            Table(
                "The merges",
                ["merge", "method", "rank", "modules", "mean truncation error, %", "largest, %"],
                rows,
                align="ll",
                caption="Truncation error: the part of the exact merged update (relative Frobenius norm, per module) "
                "that a LoRA of this rank cannot hold.",
            )
        )
    return Section("merging", "Merging and its conflicts", blocks)


def _pairs(run: Run, name: str) -> list[Pair]:
    """Means over modules, from the metrics; or from the per-module rows when the metrics have none."""
    listed = (run.metrics.get(f"merge/{name}") or {}).get("pairs")
    if listed:
        return [pair for pair in listed if isinstance(pair, dict) and "first" in pair and "second" in pair]
    sums: dict[tuple[str, str, bool], list[tuple[float, float]]] = defaultdict(list)
    for row in run.conflicts.get(name, []):
        sums[row.first, row.second, row.null].append((row.cosine, row.sign_disagreement))
    return [
        {
            "first": first,
            "second": second,
            "null": null,
            "cosine": sum(c for c, _ in values) / len(values),
            "sign_disagreement": sum(s for _, s in values) / len(values),
        }
        for (first, second, null), values in sums.items()
    ]


def _conflicts(run: Run, name: str, pairs: list[Pair]) -> list[Block]:
    real, null = [p for p in pairs if not p.get("null")], [p for p in pairs if p.get("null")]
    updates = list(run.params.merge.items[name].updates)
    found = [p[end] for p in real for end in ("first", "second")]
    names = [u for u in updates if u in found] + sorted(set(found) - set(updates))
    drawings = []
    for key, title, diverging, scale in (
        ("cosine", "Cosine", True, 1.0),
        ("sign_disagreement", "Sign disagreement, %", False, 100.0),
    ):
        matrix = [[_value(real, key, a, b, scale) for b in names] for a in names]
        limits = (-1.0, 1.0) if diverging else (0.0, 50.0)
        drawings.append(
            heat(title, [*map(words, names)], [*map(words, names)], matrix, limits, 2 if diverging else 1, diverging)
        )
        if null:
            labels = [f"{words(p['first'])} again" for p in null]
            column = [[None if (v := number(p.get(key))) is None else v * scale] for p in null]
            drawings.append(
                heat("Null: two seeds", labels, ["the twin"], column, limits, 2 if diverging else 1, diverging)
            )
    rows = [_pair(f"{words(p['first'])} against {words(p['second'])}", p) for p in real]
    rows += [_pair(f"null: {words(p['first'])} under two seeds", p, "best") for p in null]
    caption = (
        "Means over modules of the exact updates to the base. Sign disagreement: the share of magnitude on entries "
        "whose signs differ; 50 % is what unrelated updates have. Cancels: norm of what is lost when both are added. "
        "Overlap: mean squared cosine of the principal angles between what they read (in) and write (out). "
    )
    caption += _reading(real, null)
    table = Table(
        "Pairs of updates",
        ["pair", "cosine", "sign disagreement, %", "cancels, %", "overlap in", "overlap out"],
        rows,
    )
    blocks: list[Block] = [
        Figure(f"Conflict between the updates of the merge “{words(name)}”", drawings, caption, table)
    ]
    where = _where(run, name)
    if isinstance(told := run.metrics.get(f"merge/{name}", {}).get("hardest"), str) and told:
        blocks.append(Text(f"{told}.", lead="Who fights, where."))
    layers = _layers(run, name)
    return blocks + [each for each in (where, layers) if each]


def _pair(label: str, pair: Pair, mark: str = "") -> Row:
    shares = [percent(pair.get(key)) for key in ("sign_disagreement", "interference")]
    overlaps = [decimal(pair.get(key)) for key in ("overlap_in", "overlap_out")]
    return Row([label, decimal(pair.get("cosine"), 3), *shares, *overlaps], mark)


def _where(run: Run, name: str) -> Figure | None:
    """Interference of each pair by layer and by kind of module."""
    rows = run.conflicts.get(name, [])
    if not rows:
        return None
    pairs: dict[tuple[str, str, bool], list[Conflict]] = defaultdict(list)
    for row in rows:
        pairs[row.first, row.second, row.null].append(row)
    labels = [f"null: {words(a)} twice" if null else f"{words(a)} / {words(b)}" for a, b, null in pairs]
    drawings = []
    for title, key in (("Cancels, %, by layer", _layer), ("By module", _kind)):
        columns = sorted({key(row) for row in rows})
        means = [mean_by(each, key, "interference") for each in pairs.values()]
        cells = [[100 * line[column] if column in line else None for column in columns] for line in means]
        known = [value for line in cells for value in line if value is not None]
        drawings.append(heat(title, labels, [column.strip() for column in columns], cells, (0.0, max(known))))
    return Figure(
        f"Where the updates of the merge “{words(name)}” fight",
        drawings,
        "The part of each pair that cancels when the two are added: means over the modules of a layer (-1: of none), "
        "and of a kind.",
    )


def _layer(row: Conflict) -> str:
    return f"{row.layer:3}"  # of one width, so that text sorts as numbers do


def _kind(row: Conflict) -> str:
    return kind_of(row.module)


def _reading(real: list[Pair], null: list[Pair]) -> str:
    known = [v for p in real if (v := number(p.get("sign_disagreement"))) is not None]
    yard = [v for p in null if (v := number(p.get("sign_disagreement"))) is not None]
    if not known:
        return ""
    told = f"Here the specialists disagree on {percent(min(known))} to {percent(max(known))} % of the magnitude"
    if not yard:
        return told + "; there is no null in this merge to hold this against."
    mean = sum(yard) / len(yard)
    told += f"; one specialty trained twice, under two seeds, already on {percent(mean)} %: "
    above = sum(v > mean for v in known)
    return told + f"{above} of {len(known)} pairs disagree more than that yardstick."


def _value(pairs: list[Pair], key: str, a: str, b: str, scale: float) -> float | None:
    for pair in pairs:
        if {pair["first"], pair["second"]} == {a, b} and a != b:
            known = number(pair.get(key))
            return None if known is None else known * scale
    return None


def _layers(run: Run, name: str) -> Table | None:
    by: dict[int, dict[bool, list[float]]] = defaultdict(lambda: {False: [], True: []})
    for row in run.conflicts.get(name, []):
        by[row.layer][row.null].append(row.sign_disagreement)
    if not by:
        return None
    rows = [
        Row([f"layer {layer}", count(len(by[layer][False])), _mean(by[layer][False]), _mean(by[layer][True])])
        for layer in sorted(by)
    ]
    return Table(
        f"Sign disagreement by layer, merge “{words(name)}”",
        ["layer", "pairs × modules", "between updates, %", "null, %"],
        rows,
        caption="Unweighted means over the modules of a layer.",
    )


def _mean(values: list[float]) -> str:
    return percent(sum(values) / len(values)) if values else MISSING


def _merge(run: Run, name: str) -> Row:
    metrics, item = run.metrics[f"merge/{name}"], run.params.merge.items[name]
    lost = metrics.get("truncation_error") or {}
    method = metrics.get("method", item.method.type)
    method = method if isinstance(method, str) else item.method.type
    modules = metrics.get("modules")
    modules = len(modules) if isinstance(modules, list | dict) else modules
    rank = metrics.get("rank", item.rank)
    return Row(
        [words(name), method, count(rank), count(modules), percent(lost.get("mean"), 2), percent(lost.get("max"), 2)]
    )
