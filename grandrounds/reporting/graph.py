"""A directed graph drawn in layers, top to bottom (Sugiyama's steps: layer, order by barycentre, place, draw)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from grandrounds.reporting.drawing import canvas, label, shape, shorten
from grandrounds.reporting.escaping import visible

WIDE, TALL, ACROSS, DOWN, THIN = 150.0, 40.0, 8.0, 34.0, 22.0


@dataclass(frozen=True)
class Box:
    """One node: a name, a second line, and the class that colours it."""

    name: str
    under: str
    tone: str


def layered(title: str, boxes: Mapping[str, Box], edges: Sequence[tuple[str, str]]) -> Markup:
    """Draw the graph. An edge over several layers bends through a free lane in each, so it crosses no box."""
    level = layers(list(boxes), edges)
    rows: list[list[str]] = [[] for _ in range(max(level.values()) + 1)]
    for name in boxes:
        rows[level[name]].append(name)
    links: list[tuple[str, str]] = []  # between neighbouring rows
    routes: list[list[str]] = []
    for index, (start, end) in enumerate(edges):
        lane = [f"\0{index}.{row}" for row in range(level[start] + 1, level[end])]
        for name, row in zip(lane, range(level[start] + 1, level[end]), strict=True):
            rows[row].append(name)
        route = [start, *lane, end]
        routes.append(route)
        links += pairwise(route)
    order(rows, links)
    place, width = _places(rows, boxes)
    shapes = []
    for route in routes:
        shapes.append(_edge([place[name] for name in route], [name in boxes for name in route]))
    for name, box in boxes.items():
        x, y = place[name]
        shapes.append(shape("rect", x=x - WIDE / 2, y=y, width=WIDE, height=TALL, rx=5, class_=f"box {box.tone}"))
        shapes.append(label(x, y + 17, shorten(box.name, 21), "tx strong", "middle"))
        shapes.append(label(x, y + 32, shorten(box.under, 23), "xs", "middle"))
    return canvas(width, len(rows) * (TALL + DOWN) - DOWN + 4, title, shapes, least=round(min(width, 760)))


def mermaid(names: Mapping[str, str], edges: Sequence[tuple[str, str]]) -> str:
    """The same graph as a Mermaid flowchart, for Markdown. `names` has the text of each node, by its key."""
    ids = {key: f"s{index}" for index, key in enumerate(names)}
    lines = ["flowchart TD"]
    lines += [f'  {ids[key]}["{_quoted(name)}"]' for key, name in names.items()]
    lines += [f"  {ids[start]} --> {ids[end]}" for start, end in edges]
    return "\n".join(lines)


def _quoted(text: str) -> str:
    """Mermaid's entities; what is no name (a line break, backticks, an address) ends no label or block."""
    text = " ".join(visible(text).split()).replace("#", "#35;")
    for letter, entity in (('"', "#quot;"), ("<", "#lt;"), (">", "#gt;"), ("`", "#96;"), ("://", "#58;//")):
        text = text.replace(letter, entity)
    return text


def layers(names: Sequence[str], edges: Sequence[tuple[str, str]]) -> dict[str, int]:
    """The row of each node: the longest path to it. A cycle is cut after as many rows as there are nodes."""
    level = dict.fromkeys(names, 0)
    for _ in names:
        moved = False
        for start, end in edges:
            if level[end] <= level[start] and level[start] + 1 < len(names) + 1:
                level[end], moved = level[start] + 1, True
        if not moved:
            break
    return level


def order(rows: list[list[str]], links: Sequence[tuple[str, str]], sweeps: int = 8) -> None:
    """Sort each row, in place, by the mean place of its neighbours in the row above, then below, and again."""
    above: dict[str, list[str]] = {}
    below: dict[str, list[str]] = {}
    for start, end in links:
        above.setdefault(end, []).append(start)
        below.setdefault(start, []).append(end)
    for sweep in range(sweeps):
        near, indices = (above, range(1, len(rows))) if sweep % 2 == 0 else (below, range(len(rows) - 2, -1, -1))
        for index in indices:
            other = rows[index - 1 if sweep % 2 == 0 else index + 1]
            spot = {name: (place + 0.5) / len(other) for place, name in enumerate(other)}
            own = {name: (place + 0.5) / len(rows[index]) for place, name in enumerate(rows[index])}

            def mean(name: str, near=near, spot=spot, own=own) -> float:
                known = [spot[each] for each in near.get(name, []) if each in spot]
                return sum(known) / len(known) if known else own[name]

            rows[index].sort(key=mean)


def _places(rows: list[list[str]], boxes: Mapping[str, Box]) -> tuple[dict[str, tuple[float, float]], float]:
    """The top middle of each box (and of each lane), and the width of the drawing."""
    widths = [[WIDE if name in boxes else THIN for name in row] for row in rows]
    spans = [sum(row) + ACROSS * (len(row) - 1) for row in widths]
    width = max(spans) + 4
    place = {}
    for index, row in enumerate(rows):
        x = (width - spans[index]) / 2
        for name, wide in zip(row, widths[index], strict=True):
            place[name] = (x + wide / 2, index * (TALL + DOWN) + 2)
            x += wide + ACROSS
    return place, width


def _edge(stops: Sequence[tuple[float, float]], real: Sequence[bool]) -> Markup:
    x, y = stops[0]
    path = [f"M{x:.1f} {y + TALL:.1f}"]
    for (x1, y1), (x2, y2), box in zip(stops, stops[1:], real[1:], strict=False):
        start, end = y1 + TALL, y2
        middle = (start + end) / 2
        path.append(f"C{x1:.1f} {middle:.1f} {x2:.1f} {middle:.1f} {x2:.1f} {end:.1f}")
        if not box:
            path.append(f"V{y2 + TALL:.1f}")
    return shape("path", d=" ".join(path), class_="edge")
