"""What one check found."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """`note`: works without, or only matters for some. Whatever is not `ok` has a mend."""

    state: Literal["ok", "note", "bad"]
    what: str
    found: str
    mend: str = ""
