"""predict: the arms, splits and prompts."""

from pathlib import Path
from typing import Literal

from grandrounds.params.engines import FolderEngine, Sampling, TransformersEngine
from grandrounds.params.section import Name, Section


class Arm(Section):
    """A model to judge: models/base, alone or with one adapter on it."""

    adapter: Path
    title: str
    family: Literal["base", "sft", "specialist", "merge", "rl"]


class Predict(Section):
    splits: tuple[Literal["val", "test", "unseen"], ...] = ("val", "test", "unseen")
    prompts: tuple[Literal["reasoning", "no_reasoning"], ...] = ("reasoning", "no_reasoning")
    engine: FolderEngine = TransformersEngine()
    sampling: Sampling = Sampling(temperature=0.0)
    arms: dict[Name, Arm]
