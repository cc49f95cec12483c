"""The one kind of error that a user can mend: it is printed as one line, never as a traceback."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in the input. The message names the file, row, column or key, and the mend."""


def unknown(what: str, given: str, valid: Iterable[str]) -> UserError:
    """An unknown name, with the nearest valid one beside it."""
    names = sorted(valid)
    near = difflib.get_close_matches(given, names, n=1, cutoff=0.4)
    hint = f"did you mean '{near[0]}'? " if near else ""
    return UserError(f"unknown {what} '{given}': {hint}valid are {', '.join(names) or '(none)'}")


def one_line(text: str, limit: int = 500) -> str:
    """What others wrote, fit for a message: white space folded, control characters gone, at most `limit` characters."""
    text = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * limit]).split())
    return text if len(text) <= limit else text[: limit - 3] + "..."
