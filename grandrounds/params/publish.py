"""publish: the registered model."""

from typing import Annotated, Literal

from pydantic import Field

from grandrounds.params.section import Fraction, Name, Section


class Publish(Section):
    model_name: Name = "grandrounds"
    select_split: Literal["val"] = "val"
    margin: Fraction = 0.05  # of accuracy, by which a new champion may at most be worse than the one before
    case_megabytes: Annotated[float, Field(ge=0, le=8)] = 1.0  # of report.html for its case browser; 0: none
