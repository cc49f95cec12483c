"""distill: the teacher, and what a trace must be."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from grandrounds.params.engines import FolderSettings, RemoteSettings, Sampling, TransformersEngine
from grandrounds.params.section import Fraction, Section


class Reference(Section):
    """No model: the explanations that came with the data."""

    type: Literal["reference"]


class Gates(Section):
    """What a right sample must also be to become a trace (`domain/traces.py`)."""

    min_words: Annotated[int, Field(ge=0)] = 3  # of the thinking
    max_words: PositiveInt = 1500
    repeated: Fraction = 0.5  # share of 4-grams that repeat an earlier one, at most
    copied: Fraction = 0.8  # share of the thinking's 8-grams that stand in the question, at most
    script: Literal["latin", "any"] = "latin"  # of the letters: the language gate


class Distill(Section):
    questions: Literal["filtered", "train"] = "train"
    teacher: Annotated[FolderSettings | RemoteSettings | Reference, Field(discriminator="type")] = TransformersEngine()
    n: PositiveInt = 3
    choose: Literal["first", "shortest", "longest", "facts"] = "first"  # of the right samples that pass the gates
    gates: Gates = Gates()
    sampling: Sampling = Sampling()
