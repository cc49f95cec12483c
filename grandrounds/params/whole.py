"""The whole of params.yaml, with the vetted setting as each default."""

from typing import Annotated

from pydantic import Field

from grandrounds.params.adapt import Adapt
from grandrounds.params.base import Base
from grandrounds.params.benchmarks import Benchmark
from grandrounds.params.compute import Compute
from grandrounds.params.curate import Curate
from grandrounds.params.distill import Distill
from grandrounds.params.filter import Filter
from grandrounds.params.grpo import Grpo
from grandrounds.params.judge import Judge
from grandrounds.params.merge import Merge
from grandrounds.params.predict import Predict
from grandrounds.params.prompts import Prompts
from grandrounds.params.publish import Publish
from grandrounds.params.section import Name, Section


class Params(Section):
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 7
    compute: Compute = Compute()
    prompts: Prompts = Prompts()
    curate: Curate = Curate()
    base: Base = Base()
    filter: Filter
    distill: Distill = Distill()
    adapt: Adapt
    merge: Merge
    grpo: Grpo
    benchmarks: dict[Name, Benchmark] = {}
    predict: Predict
    judge: Judge
    publish: Publish = Publish()


STAGES: tuple[str, ...] = (
    "curate",
    "base",
    "filter",
    "distill",
    "adapt",
    "merge",
    "grpo",
    "predict",
    "judge",
    "publish",
)

ITEMS = {"filter": "items", "adapt": "items", "merge": "items", "grpo": "items", "predict": "arms"}
