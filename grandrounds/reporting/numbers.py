"""How figures are printed: percentages with one decimal, 95 % intervals in brackets, a dash for what is not known.

Nothing here guesses: a value that is missing, not a number or not finite is :data:`MISSING`, never 0.
"""

import math
from collections.abc import Mapping
from typing import Any

MISSING = "–"


def number(value: Any) -> float | None:
    """The value as a finite float, else None. Booleans and text are not numbers."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def percent(value: Any, digits: int = 1) -> str:
    """A fraction of 1 as a percentage without the sign: 0.613 -> 61.3."""
    known = number(value)
    return MISSING if known is None else _minus(f"{100 * known:.{digits}f}")


def decimal(value: Any, digits: int = 2) -> str:
    known = number(value)
    return MISSING if known is None else _minus(f"{known:.{digits}f}")


def count(value: Any) -> str:
    known = number(value)
    return MISSING if known is None else _minus(f"{known:,.0f}")


def scientific(value: Any) -> str:
    known = number(value)
    return MISSING if known is None else _minus(f"{known:.1e}")


def points(value: Any) -> str:
    """A difference of fractions in percentage points, always signed: 0.053 -> +5.3."""
    known = number(value)
    if known is None:
        return MISSING
    text = f"{100 * known:+.1f}"
    return _minus("0.0" if float(text) == 0 else text)


def estimate(scores: Mapping[str, Any] | None, key: str = "accuracy") -> str:
    """`61.3 [58.2, 64.4]`; without the brackets when no interval was computed."""
    scores = scores or {}
    text = percent(scores.get(key))
    if text == MISSING or number(scores.get("low")) is None or number(scores.get("high")) is None:
        return text
    return f"{text} [{percent(scores['low'])}, {percent(scores['high'])}]"


def difference(delta: Mapping[str, Any] | None) -> str:
    """`+5.3 [2.1, 8.4]` in percentage points."""
    delta = delta or {}
    text = points(delta.get("difference"))
    if text == MISSING or number(delta.get("low")) is None or number(delta.get("high")) is None:
        return text
    return f"{text} [{points(delta['low'])}, {points(delta['high'])}]"


def verdict(delta: Mapping[str, Any] | None) -> str:
    """What a paired difference shows: the judge stage's ruling, corrected for all arms, where it has one.

    Else `better` or `worse` only when its 95 % interval excludes zero.
    """
    delta = delta or {}
    if delta.get("ruling"):
        return str(delta["ruling"])
    low, high = number(delta.get("low")), number(delta.get("high"))
    if low is None or high is None:
        return MISSING
    if low > 0:
        return "better"
    return "worse" if high < 0 else "no difference shown"


def duration(seconds: Any) -> str:
    known = number(seconds)
    if known is None:
        return MISSING
    if known < 60:
        return f"{known:.1f} s"
    minutes, rest = divmod(round(known), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def words(name: str) -> str:
    """A name as it is read: `oncology_surgery` -> `oncology & surgery`."""
    pairs = {
        "brain_senses": "brain & senses",
        "oncology_surgery": "oncology & surgery",
        "image_text": "image and text",
        "multiple_choice": "multiple-choice",
        "yes_no": "yes/no",
        "open_ended": "open-ended",
    }
    return pairs.get(name, name.replace("_", " "))


def _minus(text: str) -> str:
    return text.replace("-", "−")
