"""The charts of the report: bars, lines, dots with intervals, heat maps. Values in, SVG out (:mod:`drawing`).

Colours are those of Okabe and Ito, told apart with every common colour vision;
series are also named at their line's end.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from grandrounds.reporting.drawing import LETTER, blend, canvas, label, shape, shorten, tick_text, ticks

WHITE, BLUE, ORANGE = (248, 250, 252), (12, 74, 128), (178, 84, 0)
Series = tuple[str, Sequence[float], Sequence[float]]  # name, x, y


@dataclass(frozen=True)
class Dot:
    """One row of a dot-and-interval chart; `tone` picks the colour."""

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    tone: str = "s0"
    strong: bool = False
    text: str = ""  # printed at the right end


def bars(title: str, counts: Sequence[int], band: tuple[int, int], x_name: str, y_name: str) -> Markup:
    """One bar per 0..n with its count on top; bars inside `band` (both ends in) stand on a shaded ground."""
    width, height, left, top, bottom = 290, 210, 40, 30, 40
    scale = ticks(0, max([*counts, 1]), 4)
    span, room = (width - left - 8) / max(1, len(counts)), height - top - bottom
    shapes = [label(0, 14, f"{title}: {y_name}", "tt")]
    first, last = max(0, band[0]), min(len(counts) - 1, band[1])
    if last >= first:
        wide = (last - first + 1) * span
        shapes.append(shape("rect", x=left + first * span, y=top, width=wide, height=room, class_="band"))
        shapes.append(label(left + (first + last + 1) / 2 * span, top + 11, "kept", "sm", "middle"))
    for value in scale:
        y = top + room * (1 - value / scale[-1])
        shapes.append(shape("line", x1=left, x2=width - 8, y1=y, y2=y, class_="grid"))
        shapes.append(label(left - 5, y + 4, tick_text(value), "sm", "end"))
    for index, value in enumerate(counts):
        tall = room * value / scale[-1]
        tone = "f0" if first <= index <= last else "f-muted"
        x = left + index * span
        shapes.append(
            shape("rect", x=x + span * 0.14, y=top + room - tall, width=span * 0.72, height=tall, class_=tone)
        )
        shapes.append(label(x + span / 2, top + room + 14, str(index), "sm", "middle"))
        shapes.append(label(x + span / 2, top + room - tall - 3, tick_text(value), "xs", "middle"))
    shapes.append(label(left + span * len(counts) / 2, height - 6, x_name, "sm", "middle"))
    return canvas(width, height, f"{title}: {', '.join(map(str, counts))} {y_name} by {x_name}", shapes)


def lines(title: str, series: Sequence[Series], x_name: str, smooth: bool = False, from_zero: bool = False) -> Markup:
    """Curves over steps. With `smooth` the raw curve is faint under its running mean over a tenth of the steps."""
    width, height, left, top, bottom = 290, 205, 40, 24, 38
    many = len(series) > 1
    width += 70 if many else 0
    right = 14 + (LETTER * 0.92 * max(len(shorten(name, 20)) for name, _, _ in series) if many else 0)
    xs, ys = [x for _, each, _ in series for x in each], [y for _, _, each in series for y in each]
    xscale, yscale = ticks(min(xs), max(xs), 4), ticks(0 if from_zero else min(ys), max(ys), 5)
    across, tall = width - left - right, height - top - bottom

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            left + across * (x - xscale[0]) / (xscale[-1] - xscale[0]),
            top + tall * (1 - (y - yscale[0]) / (yscale[-1] - yscale[0])),
        )

    shapes = [label(0, 14, title, "tt")]
    for value in yscale:
        y = place(xscale[0], value)[1]
        shapes.append(shape("line", x1=left, x2=width - right, y1=y, y2=y, class_="grid"))
        shapes.append(label(left - 5, y + 4, tick_text(value), "sm", "end"))
    for value in xscale:
        shapes.append(label(place(value, yscale[0])[0], top + tall + 14, tick_text(value), "sm", "middle"))
    shapes.append(label(left + across / 2, height - 6, x_name, "sm", "middle"))
    ends: list[float] = []
    for index, (_, x_values, y_values) in enumerate(series):
        shown = running_mean(y_values, max(1, len(y_values) // 10)) if smooth else list(y_values)
        if smooth:
            shapes.append(
                _path([place(x, y) for x, y in zip(x_values, y_values, strict=True)], f"line raw s{index % 7}")
            )
        points = [place(x, y) for x, y in zip(x_values, shown, strict=True)]
        shapes.append(_path(points, f"line s{index % 7}"))
        ends.append(points[-1][1])
    if many:
        for (name, _, _), y, index in zip(
            series, _apart(ends, 12.5, top + 4, top + tall), range(len(series)), strict=True
        ):
            shapes.append(label(width - right + 5, y + 4, shorten(name, 20), f"sm t{index % 7}"))
    return canvas(width, height, f"{title} by {x_name}", shapes)


def dots(title: str, rows: Sequence[Dot], x_name: str, line: float | None = None) -> Markup:
    """One row per name: a dot at the value and a bar over its interval; a dashed line at `line`. Units as given."""
    room = LETTER * max(len(shorten(row.name, 42)) for row in rows) + 14
    width, pitch, top = max(560.0, room + 330), 25, 30
    height = top + pitch * len(rows) + 40
    known = [v for row in rows for v in (row.value, row.low, row.high) if v is not None]
    known += [line] if line is not None else []
    scale = ticks(min(known, default=0.0), max(known, default=1.0), 6)
    across = width - room - 130

    def place(value: float) -> float:
        return room + across * (value - scale[0]) / (scale[-1] - scale[0])

    bottom = top + pitch * len(rows)
    shapes = [label(0, 14, title, "tt")]
    for value in scale:
        shapes.append(shape("line", x1=place(value), x2=place(value), y1=top - 4, y2=bottom, class_="grid"))
        shapes.append(label(place(value), bottom + 14, tick_text(value), "sm", "middle"))
    if line is not None:
        shapes.append(shape("line", x1=place(line), x2=place(line), y1=top - 4, y2=bottom, class_="rule"))
    for index, row in enumerate(rows):
        y = top + pitch * (index + 0.5)
        shapes.append(label(room - 10, y + 4, shorten(row.name, 42), "tx strong" if row.strong else "tx", "end"))
        if row.value is None:
            shapes.append(label(place(scale[0]) + 4, y + 4, "not in this run", "sm"))
            continue
        if row.low is not None and row.high is not None:
            shapes.append(
                shape("line", x1=place(row.low), x2=place(row.high), y1=y, y2=y, class_=f"whisker {row.tone}")
            )
        shapes.append(shape("circle", cx=place(row.value), cy=y, r=5 if row.strong else 4, class_=f"dot {row.tone}"))
        shapes.append(label(width, y + 4, row.text, "sm strong" if row.strong else "sm", "end"))
    shapes.append(label(room + across / 2, height - 6, x_name, "sm", "middle"))
    return canvas(width, height, title, shapes, least=520)


def heat(
    title: str,
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[float | None]],
    limits: tuple[float, float],
    digits: int = 1,
    diverging: bool = False,
    framed: Sequence[tuple[int, int]] = (),
    rule: int = 0,
) -> Markup:
    """A matrix of values, each printed in its cell. Colour runs over `limits`; with `diverging` it turns at zero.

    `framed` cells get a thick frame; a gap stands above row `rule` when that is not 0. A value of None is left blank.
    """
    room = LETTER * max(len(shorten(name, 42)) for name in rows) + 12
    cell, tall, gap = (78 if max(map(len, columns)) < 12 else 92), 30, 10 if rule else 0
    lines_of = [_wrap(name, 12) for name in columns]
    top = 26 + 14 * max(map(len, lines_of))
    width, height = room + cell * len(columns) + 2, top + tall * len(rows) + gap + 4
    shapes = [label(0, 14, title, "tt")]
    for column, parts in enumerate(lines_of):
        for line, part in enumerate(parts):
            y = top - 6 - 14 * (len(parts) - 1 - line)
            shapes.append(label(room + cell * (column + 0.5), y, part, "sm", "middle"))
    for row, name in enumerate(rows):
        y = top + tall * row + (gap if rule and row >= rule else 0)
        shapes.append(label(room - 8, y + tall / 2 + 4, shorten(name, 42), "tx", "end"))
        for column, value in enumerate(values[row]):
            x = room + cell * column
            if value is None:
                shapes.append(shape("rect", x=x + 1, y=y + 1.0, width=cell - 2, height=tall - 2, class_="blank"))
                continue
            colour, pale = _shade(value, limits, diverging)
            frame = "frame" if (row, column) in framed else "cell"
            shapes.append(
                shape("rect", x=x + 1, y=y + 1.0, width=cell - 2, height=tall - 2, class_=frame, style=f"fill:{colour}")
            )
            text = f"{value:.{digits}f}".replace("-", "−")
            shapes.append(label(x + cell / 2, y + tall / 2 + 4, text, "on-dark" if pale else "on-light", "middle"))
    return canvas(width, height, title, shapes, least=round(min(width, 430)))


def running_mean(values: Sequence[float], window: int) -> list[float]:
    """The mean over the last `window` values, fewer at the start: no step looks ahead of itself."""
    total, out = 0.0, []
    for index, value in enumerate(values):
        total += value - (values[index - window] if index >= window else 0.0)
        out.append(total / min(index + 1, window))
    return out


def _path(points: Sequence[tuple[float, float]], class_: str) -> Markup:
    return shape("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points), class_=class_)


def _apart(places: Sequence[float], least: float, top: float, bottom: float) -> list[float]:
    """The places moved as little as needed to lie `least` apart inside [top, bottom], in their order."""
    order = sorted(range(len(places)), key=lambda index: (places[index], index))
    moved: list[float] = []
    for index in order:
        moved.append(max(places[index], moved[-1] + least if moved else top))
    for place in range(len(moved) - 1, -1, -1):
        above = moved[place + 1] - least if place + 1 < len(moved) else bottom
        moved[place] = min(moved[place], above)
    out = [0.0] * len(places)
    for index, value in zip(order, moved, strict=True):
        out[index] = value
    return out


def _shade(value: float, limits: tuple[float, float], diverging: bool) -> tuple[str, bool]:
    low, high = limits
    if diverging:
        return blend(WHITE, BLUE if value >= 0 else ORANGE, abs(value) / (max(abs(low), abs(high)) or 1))
    return blend(WHITE, BLUE, (value - low) / ((high - low) or 1) * 0.92 + 0.04)


def _wrap(text: str, letters: int) -> list[str]:
    lines_of: list[str] = []
    for word in text.split() or [""]:
        if lines_of and len(lines_of[-1]) + 1 + len(word) <= letters:
            lines_of[-1] += " " + word
        else:
            lines_of.append(shorten(word, letters + 4))
    return lines_of
