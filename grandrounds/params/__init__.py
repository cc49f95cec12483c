"""params.yaml as frozen, strict models. :func:`load` is the only reader."""

from grandrounds.params.adapt import Adapt, Adapter, Lora, SftTraining
from grandrounds.params.base import Base, EmbeddedModel, GraftedModel, HubModel, HubRevision, LocalModel
from grandrounds.params.benchmarks import Benchmark
from grandrounds.params.checkpoints import Checkpoints
from grandrounds.params.compute import Compute
from grandrounds.params.curate import Curate, Labeller
from grandrounds.params.distill import Distill, Gates, Reference
from grandrounds.params.engines import (
    GeminiEngine,
    OpenAIEngine,
    Price,
    RemoteSettings,
    Sampling,
    TransformersEngine,
    VllmEngine,
)
from grandrounds.params.filter import Bayesian, Exact, Filter, Full, Keep
from grandrounds.params.grpo import Gba, Gdpo, Grouped, Grpo, GrpoItem, Watch, Weight
from grandrounds.params.judge import Judge, ReferenceJudge
from grandrounds.params.merge import (
    Beside,
    ConflictAware,
    DareLinear,
    DareTies,
    Knots,
    Linear,
    Merge,
    MergeItem,
    MergeMethod,
    MergeRule,
    MergeSearch,
    Ram,
    Ties,
)
from grandrounds.params.predict import Arm, Predict
from grandrounds.params.prompts import Prompts
from grandrounds.params.publish import Publish
from grandrounds.params.reading import check, load, root
from grandrounds.params.section import Section
from grandrounds.params.sources import (
    AnySource,
    ChatSource,
    Columns,
    DicomSource,
    Duplicates,
    EmbeddedSource,
    FilesOnly,
    FileSource,
    NiftiSource,
    OwnSource,
    PublishedSource,
    SpecialtyRule,
    TableSource,
)
from grandrounds.params.whole import ITEMS, STAGES, Params

__all__ = [
    "ITEMS",
    "STAGES",
    "Adapt",
    "Adapter",
    "AnySource",
    "Arm",
    "Base",
    "Bayesian",
    "Benchmark",
    "Beside",
    "ChatSource",
    "Checkpoints",
    "Columns",
    "Compute",
    "ConflictAware",
    "Curate",
    "DareLinear",
    "DareTies",
    "DicomSource",
    "Distill",
    "Duplicates",
    "EmbeddedModel",
    "EmbeddedSource",
    "Exact",
    "FileSource",
    "FilesOnly",
    "Filter",
    "Full",
    "Gates",
    "Gba",
    "Gdpo",
    "GeminiEngine",
    "GraftedModel",
    "Grouped",
    "Grpo",
    "GrpoItem",
    "HubModel",
    "HubRevision",
    "Judge",
    "Keep",
    "Knots",
    "Labeller",
    "Linear",
    "LocalModel",
    "Lora",
    "Merge",
    "MergeItem",
    "MergeMethod",
    "MergeRule",
    "MergeSearch",
    "NiftiSource",
    "OpenAIEngine",
    "OwnSource",
    "Params",
    "Predict",
    "Price",
    "Prompts",
    "Publish",
    "PublishedSource",
    "Ram",
    "Reference",
    "ReferenceJudge",
    "RemoteSettings",
    "Sampling",
    "Section",
    "SftTraining",
    "SpecialtyRule",
    "TableSource",
    "Ties",
    "TransformersEngine",
    "VllmEngine",
    "Watch",
    "Weight",
    "check",
    "load",
    "root",
]
