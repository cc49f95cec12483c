"""publish: the registered model."""

from typing import Annotated, Literal

from pydantic import Field

from grandrounds.params.section import Name, Section


class Publish(Section):
    model_name: Name = "grandrounds"
    select_split: Literal["val"] = "val"
    case_megabytes: Annotated[float, Field(ge=0, le=8)] = 1.0  # of report.html for its case browser; 0: none
