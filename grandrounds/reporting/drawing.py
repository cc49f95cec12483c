"""SVG from plain shapes: escaped labels, colours by CSS class (light, dark and print in one drawing), no script.

Everything returns :class:`markupsafe.Markup`; the same input gives the same bytes.
"""

import math
from collections.abc import Sequence

from markupsafe import Markup, escape

from grandrounds.reporting.escaping import visible

LETTER = 6.3  # mean width of a letter at 12 px, for room beside axes


def shape(name: str, text: str | None = None, **attributes: object) -> Markup:
    """One element. `class_` and `text_anchor` become `class` and `text-anchor`; numbers are cut to two decimals."""
    parts = [Markup("<{}").format(Markup(name))]
    for key, value in attributes.items():
        shown = f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
        parts.append(Markup(' {}="{}"').format(Markup(key.rstrip("_").replace("_", "-")), shown))
    parts.append(Markup("/>") if text is None else Markup(">{}</{}>").format(visible(text), Markup(name)))
    return Markup("").join(parts)


def label(x: float, y: float, text: str, class_: str = "", anchor: str = "start") -> Markup:
    return shape("text", text, x=float(x), y=float(y), class_=class_ or "tx", text_anchor=anchor)


def canvas(width: float, height: float, title: str, shapes: Sequence[Markup], least: int = 0) -> Markup:
    """The whole drawing. `least` is the width in pixels below which it scrolls rather than shrinks."""
    style = f"width:{width:.0f}px;min-width:{least or min(width, 280):.0f}px"
    head = Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}" style="{}">').format(
        f"{width:.0f}", f"{height:.0f}", visible(title), style
    )
    return head + Markup("").join(shapes) + Markup("</svg>")


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round numbers that cover [low, high], both ends included."""
    if not high - low > 1e-8 * max(1.0, abs(low), abs(high)):  # as good as flat: one unit of room
        high = low + (abs(low) if abs(low) > 1e-6 else 1.0)
    rough = (high - low) / max(1, wanted - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 10) for index in range(first, last + 1)]


def tick_text(value: float) -> str:
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return text.replace("-", "−")


def shorten(text: str, letters: int) -> str:
    return text if len(text) <= letters else text[: letters - 1].rstrip() + "…"


def blend(low: tuple[int, int, int], high: tuple[int, int, int], share: float) -> tuple[str, bool]:
    """A colour between two, and whether white text reads better on it (WCAG luminance)."""
    share = min(1.0, max(0.0, share))
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(low, high, strict=True))
    linear = [(c / 255 / 12.92) if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in (red, green, blue)]
    return f"#{red:02x}{green:02x}{blue:02x}", 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] < 0.22


def escaped(text: str) -> Markup:
    return escape(visible(text))
