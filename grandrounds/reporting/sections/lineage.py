"""From the champion down to the source data: which bytes, which code, which parameters."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from grandrounds.reporting.blocks import Figure, Node, Row, Section, Table, Text, Tree, missing
from grandrounds.reporting.collect import Run
from grandrounds.reporting.graph import Box, layered, mermaid
from grandrounds.reporting.numbers import words
from grandrounds.reporting.sections.pipeline import TONES

DEPTH = 40  # far deeper than any pipeline; stops a lineage that names itself


def section(run: Run) -> Section:
    title = "Lineage of the champion"
    if not run.lineage:
        return Section("lineage", title, [missing("The lineage of a registered champion")])
    node = _node(run.lineage, set(), 0)
    told = Text(
        "Each step stands above what it was made from. The md5 is DVC's, of the bytes themselves (.dir: of a "
        "folder's listing); the commit is the code's. A step that was printed before is named, and not opened again.",
        tone="note",
    )
    return Section("lineage", title, [_figure(run.lineage), told, Tree(node)])


@dataclass
class _Graph:
    """Each stage run once, each source once, and the paths that went from one to the other."""

    boxes: dict[str, Box] = field(default_factory=dict)
    read: dict[tuple[str, str], list[tuple[str, str]]] = field(default_factory=dict)  # (from, to) -> (path, md5)

    def add(self, raw: Mapping[str, Any], reader: str, depth: int = 0) -> None:
        name, stage, md5 = (str(raw.get(key) or "") for key in ("name", "stage", "md5"))
        key = f"{stage} {raw.get('run') or ''}" if stage else f"{name} {md5}"
        if stage:
            verb, _, item = stage.partition("@")
            code = str(raw.get("commit") or "")[:7]
            under = " · ".join(part for part in (verb if item else "", code and f"code {code}") if part)
            known = self.boxes.get(key)
            if known is None or not known.under:
                self.boxes[key] = Box(words(item or verb), under, TONES.get(verb, "data"))
        else:
            self.boxes[key] = Box(name, f"md5 {md5[:7]}", "data")
        paths = self.read.setdefault((key, reader), []) if key != reader else []
        if (name, md5) not in paths:
            paths.append((name, md5))
        for each in raw.get("inputs") or [] if depth < DEPTH else []:
            if isinstance(each, Mapping):
                self.add(each, key, depth + 1)

    def direct(self) -> list[tuple[str, str]]:
        """The edges without those that a longer way implies: two dozen lines from `curate` would hide the rest."""
        below: dict[str, set[str]] = {}
        for start, end in self.read:
            below.setdefault(end, set()).add(start)

        def ancestors(key: str, seen: set[str]) -> set[str]:
            for each in below.get(key, set()) - seen:
                seen.add(each)
                ancestors(each, seen)
            return seen

        return [
            (start, end)
            for start, end in self.read
            if not any(start in ancestors(other, {end}) for other in below[end] - {start})
        ]


def _figure(tree: Mapping[str, Any]) -> Figure:
    """From the sources, on top, to the champion; the table has every path and md5, those of undrawn edges as well."""
    graph, top = _Graph(), "champion"
    facts = [str(tree[key]) for key in ("model", "arm") if tree.get(key)]
    graph.boxes[top] = Box(str(tree.get("alias") or top), " · ".join(facts), "score")
    graph.add(tree, top)
    names = {key: f"{box.name} ({box.under})" if box.under else box.name for key, box in graph.boxes.items()}
    rows = [
        Row([names[start], path, md5, names[end]]) for (start, end), paths in graph.read.items() for path, md5 in paths
    ]
    edges = graph.direct()
    return Figure(
        "From the sources to the champion",
        [layered("Lineage of the champion", graph.boxes, edges)],
        "Every box is a source or one run of a stage, with the commit of its code. A line says that the lower one read "
        "what the upper one wrote; lines that follow from others are left out, and are in the table.",
        Table("What was read from where", ["from", "path", "md5", "read by"], rows, align="llll"),
        mermaid(names, edges),
    )


def _node(raw: Mapping[str, Any], seen: set[tuple[str, ...]], depth: int) -> Node:
    name, stage = str(raw.get("name") or "(unnamed)"), str(raw.get("stage") or "")
    md5, commit = str(raw.get("md5") or ""), str(raw.get("commit") or "")
    facts = [(key, value) for key, value in (("md5", md5), ("commit", commit)) if value]
    below = [each for each in raw.get("inputs") or [] if isinstance(each, Mapping)]
    title = f"{name} · {stage}" if stage and stage != name else name
    mark = (name, stage, md5)
    if mark in seen and below:
        return Node(f"{title} (as above)", [fact for fact in facts if fact[0] == "md5"])
    seen.add(mark)
    params = _params(raw.get("params"))
    facts += [("params", params)] if params else []
    facts += [
        (str(k), str(v)) for k, v in raw.items() if k not in _KNOWN and isinstance(v, str | int | float) and str(v)
    ]
    if depth >= DEPTH and below:
        return Node(title, [*facts, ("note", "deeper steps are left out")])
    return Node(title, facts, [_node(each, seen, depth + 1) for each in below])


_KNOWN = {"name", "stage", "md5", "commit", "params", "inputs"}


def _params(value: Any, prefix: str = "") -> str:
    """Nested parameters as one line: `lora.r=8, steps=100`; long texts are cut."""
    if not isinstance(value, Mapping):
        text = str(value) if value not in (None, "") else ""
        return text if len(text) < 400 else text[:400] + "…"
    parts = []
    for key, each in value.items():
        name = f"{prefix}{key}"
        if isinstance(each, Mapping):
            parts += [_params(each, f"{name}.")] if each else []
        else:
            text = " ".join(str(each).split())
            parts.append(f"{name}={text if len(text) < 120 else text[:117] + '…'}")
    return ", ".join(part for part in parts if part)
