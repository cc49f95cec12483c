"""Blocks as Markdown: tables and mermaid, with the figures behind every drawing as a table. Everything is escaped."""

from collections.abc import Sequence

from grandrounds.reporting.blocks import (
    Block,
    Browser,
    Case,
    Figure,
    Keys,
    Link,
    Node,
    Pair,
    Section,
    Table,
    Text,
    Tree,
)
from grandrounds.reporting.escaping import inline, quoted


def document(title: str, statement: Sequence[str], sections: Sequence[Section]) -> str:
    """The whole report. Sections must be :func:`blocks.numbered`."""
    parts = [f"# {inline(title)}", *(f"> **{inline(line)}**" for line in statement)]
    parts.append("\n".join(f"{index}. [{inline(each.title)}](#{each.id})" for index, each in enumerate(sections, 1)))
    for index, section in enumerate(sections, 1):
        parts.append(f'<a id="{section.id}"></a>\n\n## {index}. {inline(section.title)}')
        parts += [block(each) for each in section.blocks]
    return "\n\n".join(part for part in parts if part) + "\n"


def block(each: Block) -> str:
    match each:
        case Text():
            lead = f"**{inline(each.lead)}** " if each.lead else ""
            text = lead + inline(each.text)
            return {"warning": f"> {text}", "missing": f"*{inline(each.text)}*"}.get(each.tone, text)
        case Link():
            return f"- [{inline(each.text)}]({each.url})"
        case Keys():
            return "\n".join(
                f"- **{inline(k.value)}** {inline(k.label)}. {inline(k.detail)}".rstrip() for k in each.keys
            )
        case Table():
            return table(each)
        case Figure():
            return _figure(each)
        case Tree():
            return "\n".join(_node(each.root, 0))
        case Case():
            return _case(each)
        case Pair():
            sides = [f"{inline(side.title)}\n\n{quoted(side.text)}" for side in (each.left, each.right)]
            return "\n\n".join([f"**{inline(each.title)}**", *sides])
        case Browser():
            return "*The case browser is in report.html.*"


def table(each: Table) -> str:
    heading = f"**Table {each.number}. {inline(each.title)}**" if each.number else f"**{inline(each.title)}**"
    sides = [each.side(index) for index in range(len(each.columns))]
    lines = [
        "| " + " | ".join(inline(column) or " " for column in each.columns) + " |",
        "|" + "|".join("---:" if side in "rf" else "---" for side in sides) + "|",
    ]
    for row in each.rows:
        bold = row.mark in ("best", "group")
        cells = [f"**{inline(cell)}**" if bold and cell else inline(cell) for cell in row.cells]
        cells += [""] * (len(each.columns) - len(cells))
        lines.append("| " + " | ".join(cells) + " |")
    caption = " " + inline(each.caption) if each.caption else ""
    return f"{heading}{caption}\n\n" + "\n".join(lines)


def _figure(each: Figure) -> str:
    parts = [f"**Figure {each.number}. {inline(each.title)}** {inline(each.caption)}".rstrip()]
    if each.mermaid:
        parts.append(f"```mermaid\n{each.mermaid}\n```")
    if each.table:
        parts.append(table(each.table))
    return "\n\n".join(parts)


def _node(node: Node, depth: int) -> list[str]:
    facts = "; ".join(f"{inline(name)} {inline(value)}" for name, value in node.facts)
    lines = [f"{'  ' * depth}- **{inline(node.title)}**" + (f": {facts}" if facts else "")]
    for child in node.children:
        lines += _node(child, depth + 1)
    return lines


def _case(case: Case) -> str:
    parts = [f"**{inline(case.title)}**", quoted(case.question)]
    if case.image_name:
        parts.append(f"Image: {inline(case.image_name)}")
    if case.options:
        parts.append("\n".join(f"- {inline(option)}" for option in case.options))
    parts.append(
        f"Reference: **{inline(case.reference)}**" + (f". {inline(case.explanation)}" if case.explanation else "")
    )
    head = "| arm | thinking | answer | verdict |\n|---|---|---|---|"
    rows = [
        f"| {inline(each.arm)} | {inline(each.thinking)} | {inline(each.answer)} | "
        f"{inline(each.verdict)}{': ' + inline(each.remark) if each.remark else ''} |"
        for each in case.replies
    ]
    return "\n\n".join([*parts, "\n".join([head, *rows])])
