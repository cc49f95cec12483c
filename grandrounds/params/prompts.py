"""prompts: the wording of every prompt form."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from grandrounds.params.section import Section


class Prompts(Section):
    """Wording of every prompt form: `compact` for the embedded model, `full` for real ones; a file may reword some."""

    wording: Literal["compact", "full"] = "compact"
    file: Path | None = None  # YAML: <form>: {instruction, thinking, prefill}
    sha256: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""  # of the file: DVC sees a change of it only here
