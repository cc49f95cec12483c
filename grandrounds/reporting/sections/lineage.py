"""From the champion down to the source data: which bytes, which code, which parameters."""

from collections.abc import Mapping
from typing import Any

from grandrounds.reporting.blocks import Node, Section, Text, Tree, missing
from grandrounds.reporting.collect import Run

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
    return Section("lineage", title, [told, Tree(node)])


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
