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
