"""What a report is made of, whatever it is printed as: :mod:`html` and :mod:`markdown` print the same blocks.

All text is plain text. Nothing in a block is markup, so both printers escape everything; the one exception is a
drawing, which :mod:`plots` builds as :class:`markupsafe.Markup` with its labels escaped.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup


@dataclass(frozen=True)
class Text:
    """A paragraph; `tone` is plain, note (smaller), warning (boxed) or missing ("not in this run")."""

    text: str
    lead: str = ""  # set in bold before the text
    tone: str = "plain"
    kind: str = "text"


@dataclass(frozen=True)
class Link:
    """A citation: the only kind of address that a report may hold."""

    text: str
    url: str
    kind: str = "link"


@dataclass(frozen=True)
class Row:
    cells: Sequence[str]
    mark: str = ""  # best, published, group (one cell over the whole width)


@dataclass(frozen=True)
class Table:
    """`align` has one letter a column: l, r, w (left, and wide), or f (right; folds, and not inside an interval)."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Row]
    align: str = ""
    caption: str = ""  # what to conclude, and how n was counted
    published: bool = False
    number: int = 0
    kind: str = "table"

    def side(self, column: int) -> str:
        return self.align[column] if column < len(self.align) else ("l" if column == 0 else "r")


@dataclass(frozen=True)
class Figure:
    """One or more drawings under one caption, and the figures behind them as a table."""

    title: str
    drawings: Sequence[Markup]
    caption: str = ""
    table: Table | None = None
    mermaid: str = ""  # the same drawing for Markdown
    number: int = 0
    kind: str = "figure"


@dataclass(frozen=True)
class Key:
    """One figure of the headline."""

    value: str
    label: str
    detail: str = ""


@dataclass(frozen=True)
class Keys:
    keys: Sequence[Key]
    kind: str = "keys"


@dataclass(frozen=True)
class Node:
    """One step of a lineage: facts are (name, value) pairs."""

    title: str
    facts: Sequence[tuple[str, str]] = ()
    children: Sequence["Node"] = ()


@dataclass(frozen=True)
class Tree:
    root: Node
    kind: str = "tree"


@dataclass(frozen=True)
class Reply:
    """What one arm said to one question."""

    arm: str
    thinking: str
    answer: str
    verdict: str  # right, wrong, unparsed
    remark: str = ""


@dataclass(frozen=True)
class Case:
    title: str
    question: str
    options: Sequence[str]
    reference: str
    replies: Sequence[Reply]
    image: str = ""  # data URL
    image_name: str = ""
    explanation: str = ""
    kind: str = "case"


@dataclass(frozen=True)
class Side:
    title: str
    text: str
    image: str = ""  # data URL


@dataclass(frozen=True)
class Pair:
    """Two texts, with their images, side by side."""

    title: str
    left: Side
    right: Side
    kind: str = "pair"


@dataclass(frozen=True)
class Browser:
    """Cases to be filtered and searched in a page; `payload` is JSON that is inert inside a script element."""

    payload: str
    kind: str = "browser"


Block = Text | Link | Table | Figure | Keys | Tree | Case | Pair | Browser


@dataclass(frozen=True)
class Section:
    id: str
    title: str
    blocks: Sequence[Block] = field(default_factory=list)


def missing(what: str) -> Text:
    """The one way to say that a part is not there."""
    return Text(f"{what}: not in this run.", tone="missing")


def numbered(sections: Sequence[Section]) -> list[Section]:
    """The sections with their tables and figures counted through. Tables behind a figure carry no number."""
    counts = {"table": 0, "figure": 0}
    result = []
    for section in sections:
        blocks: list[Block] = []
        for block in section.blocks:
            if isinstance(block, Table | Figure):
                counts[block.kind] += 1
                block = dataclasses.replace(block, number=counts[block.kind])
            blocks.append(block)
        result.append(dataclasses.replace(section, blocks=blocks))
    return result
