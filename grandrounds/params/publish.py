"""publish: the registered model."""

from typing import Literal

from grandrounds.params.section import Name, Section


class Publish(Section):
    model_name: Name = "grandrounds"
    select_split: Literal["val"] = "val"
