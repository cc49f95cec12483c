"""compute: where stages run."""

from typing import Annotated, Literal

from pydantic import Field

from grandrounds.params.section import Section


class Compute(Section):
    """Where to run. Changes no result on the CPU; `device` and `precision` do change bytes."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["float32", "bfloat16"] = "float32"
    threads: Annotated[int, Field(ge=0)] = 0  # 0: all cores
