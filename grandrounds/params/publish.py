"""publish: the registered model."""

from typing import Literal

from grandrounds.params.section import Fraction, Name, Section


class Publish(Section):
    model_name: Name = "grandrounds"
    select_split: Literal["val"] = "val"
    margin: Fraction = 0.05  # of accuracy, by which a new champion may at most be worse than the one before
