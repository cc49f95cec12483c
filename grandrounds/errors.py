"""The one kind of error that a user can mend: it is printed as one line, never as a traceback."""

import difflib
import errno
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT)
CLOSED = (errno.EACCES, errno.EPERM, errno.EROFS)


class UserError(Exception):
    """A mistake in the input. The message names the file, row, column or key, and the mend."""


def unknown(what: str, given: str, valid: Iterable[str]) -> UserError:
    """An unknown name, with the nearest valid one beside it."""
    names = sorted(valid)
    near = difflib.get_close_matches(given, names, n=1, cutoff=0.4)
    hint = f"did you mean '{near[0]}'? " if near else ""
    return UserError(f"unknown {what} '{given}': {hint}valid are {', '.join(names) or '(none)'}")


def of_disk(error: BaseException, path: str | Path = "") -> UserError | None:
    """What is wrong with the disk in words, if it is that: full, or not ours to write. `path`: where the error is mute.

    Rust's libraries (safetensors, tokenizers) give no OSError, only the system's words in their own; torch's zip writer
    gives neither, so there the disk itself is asked.
    """
    number = error.errno if isinstance(error, OSError) else None
    named = getattr(error, "filename", None) or path
    place = named or os.getcwd()
    if number in FULL or os.strerror(errno.ENOSPC) in str(error) or ("inline_container" in str(error) and _full(place)):
        return UserError(f"{place}: the disk is full; free some space, then run the same again: nothing half is kept")
    if number in CLOSED and named:
        why = os.strerror(number).lower()
        return UserError(f"{named}: {why}; make its folder writable for you, or work in a copy of the project")
    return None


def _full(path: str | Path) -> bool:
    """Whether less than a megabyte is free where the path lies, or would lie."""
    there = next(folder for folder in (Path(path).absolute(), *Path(path).absolute().parents) if folder.exists())
    return shutil.disk_usage(there).free < 2**20


def one_line(text: str, limit: int = 500) -> str:
    """What others wrote, fit for a message: white space folded, control characters gone, at most `limit` characters."""
    text = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * limit]).split())
    return text if len(text) <= limit else text[: limit - 3] + "..."
