"""One class a section of params.yaml, with the vetted setting as each default."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from grandrounds.params.engines import (
    AnyEngine,
    GeminiEngine,
    LocalEngine,
    OpenAIEngine,
    Sampling,
    TransformersEngine,
    VllmEngine,
)
from grandrounds.params.section import Fraction, Name, Section
from grandrounds.params.sources import AnySource, Duplicates, EmbeddedSource, SpecialtyRule
from grandrounds.records import MODALITIES


class Compute(Section):
    """Where to run. Changes no result on the CPU; `device` and `precision` do change bytes."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["float32", "bfloat16"] = "float32"
    threads: Annotated[int, Field(ge=0)] = 0  # 0: all cores


class Prompts(Section):
    """Wording of every prompt form: `compact` for the embedded model, `full` for real ones; a file may reword some."""

    wording: Literal["compact", "full"] = "compact"
    file: Path | None = None  # YAML: <form>: {instruction, thinking, prefill}
    sha256: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""  # of the file: DVC sees a change of it only here


class Curate(Section):
    sources: Annotated[dict[Name, AnySource], Field(min_length=1)] = {"embedded": EmbeddedSource()}
    validation: NonNegativeFloat = 0.1  # carved from train by group: below 1 a share of it, from 1 on questions
    quarantine_share: Fraction = 0.02  # of a source's rows: above it the stage fails
    max_pixels: PositiveInt = 50_000_000  # a picture with more is refused before it is decoded
    image_size_cap: Annotated[int, Field(ge=28)] = 1024  # longest side; larger pictures are scaled down
    duplicates: Duplicates = Duplicates()
    specialties: tuple[SpecialtyRule, ...] = ()  # tried in order
    leakage: Literal["remove", "fail"] = "remove"  # training questions that an evaluation set also asks

    @property
    def embedded(self) -> EmbeddedSource | None:
        """The embedded source, where it is among the sources."""
        return next((each for each in self.sources.values() if isinstance(each, EmbeddedSource)), None)


class EmbeddedModel(Section):
    """A Qwen2.5-VL-class model trained here from nothing; the teacher goes on from the base."""

    type: Literal["embedded"] = "embedded"
    vocabulary: Annotated[int, Field(ge=300)] = 1024
    hidden: PositiveInt = 128
    layers: PositiveInt = 4
    heads: PositiveInt = 4
    vision_hidden: PositiveInt = 64
    vision_layers: PositiveInt = 2
    batch: PositiveInt = 32
    steps: PositiveInt = 300
    learning_rate: PositiveFloat = 3e-3
    vision_rate: PositiveFloat = 0.3  # learning rate of the vision tower, as a multiple of the rest's
    teacher_steps: PositiveInt = 500
    teacher_learning_rate: PositiveFloat = 2e-3
    teacher_emphasis: PositiveInt = 3  # how often `train` stands in the teacher's data
    teacher_rehearsal: Annotated[int, Field(ge=0)] = 4000  # questions of `pretrain`, stated as published, beside it


class HubRevision(Section):
    """A model on the Hugging Face hub at a pinned commit; only safetensors are fetched."""

    repository: str
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]


class HubModel(Section):
    type: Literal["hub"]
    base: HubRevision
    teacher: HubRevision


class LocalModel(Section):
    """Folders that hold transformers models; copied, safetensors only."""

    type: Literal["local"]
    base: Path
    teacher: Path


class Base(Section):
    model: Annotated[EmbeddedModel | HubModel | LocalModel, Field(discriminator="type")] = EmbeddedModel()


class Keep(Section):
    """Keep a question whose pass count lies in [min, max]. MedVLThinker: 1..7 of 16 (code)."""

    min: Annotated[int, Field(ge=0)] = 1
    max: Annotated[int, Field(ge=0)] = 6


class Exact(Section):
    """Stop asking a question once no outcome of what is left of its n samples can change the decision."""

    type: Literal["exact"] = "exact"


class Bayesian(Section):
    """Stop also once the decision will change with a chance of at most `error`, given what was seen so far."""

    type: Literal["bayesian"]
    error: Annotated[float, Field(gt=0, lt=0.5)] = 0.01


class Full(Section):
    """Draw all n samples of every question: complete pass counts, for a histogram or an easy-to-hard order."""

    type: Literal["full"]


Stopping = Annotated[Full | Exact | Bayesian, Field(discriminator="type")]


class Filter(Section):
    model: Path = Path("models/base")  # whose pass count decides; of the engines that load a folder
    engine: AnyEngine = TransformersEngine()
    n: PositiveInt = 8
    keep: Keep = Keep()
    stopping: Stopping = Exact()
    sampling: Sampling = Sampling()
    items: dict[Literal["text", "image_text"], Section]


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
    teacher: Annotated[
        TransformersEngine | VllmEngine | OpenAIEngine | GeminiEngine | Reference, Field(discriminator="type")
    ] = TransformersEngine()
    n: PositiveInt = 3
    choose: Literal["first", "shortest", "longest", "facts"] = "first"  # of the right samples that pass the gates
    gates: Gates = Gates()
    sampling: Sampling = Sampling()


class Lora(Section):
    """RARL: r 8, alpha 16 on q, k, v, o of the language model (paper)."""

    r: PositiveInt = 8
    alpha: PositiveFloat = 16
    dropout: Fraction = 0.0
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj")


class SftTraining(Section):
    steps: PositiveInt = 100
    batch: PositiveInt = 32
    learning_rate: PositiveFloat = 2e-3
    warmup: Fraction = 0.05
    weight_decay: NonNegativeFloat = 0.0
    lora: Lora = Lora()


class Adapter(Section):
    specialties: tuple[str, ...]
    seed_offset: int = 0  # another seed over the same data: the twin that gives merge its null


class Adapt(Section):
    training: SftTraining = SftTraining()
    items: dict[Name, Adapter]


class Beside(Section):
    """The fifth adapter of a merge: one more update, or the twin that yields the conflict report's null."""

    name: Name
    path: Path
    role: Literal["update", "twin"]
    of: str = ""  # a twin names the specialist that it repeats under another seed


class Ties(Section):
    """TIES (2306.01708) on exact updates, saved as a LoRA of the given rank by truncated SVD."""

    type: Literal["ties"] = "ties"
    density: Annotated[float, Field(gt=0, le=1)] = 0.5
    scale: PositiveFloat = 1.0  # lambda, on the merged update


class Linear(Section):
    """Task arithmetic (2212.04089): the weighted sum."""

    type: Literal["linear"]
    scale: PositiveFloat = 1.0


Method = Annotated[Ties | Linear, Field(discriminator="type")]


class MergeItem(Section):
    updates: dict[Name, Path]
    beside: Beside
    weights: dict[str, float] = {}  # 1 where not named
    method: Method = Ties()
    rank: PositiveInt = 32


class Merge(Section):
    items: dict[Name, MergeItem]


class Gba(Section):
    """Guideline-based advantages (ours; PAPERS in docs/papers.md gives the formula)."""

    type: Literal["gba"]
    guidelines: tuple[Literal["differential", "intuitive", "analytical", "bayesian"], ...] = (
        "differential",
        "intuitive",
        "analytical",
        "bayesian",
    )
    within: NonNegativeFloat = 1.0
    between: NonNegativeFloat = 1.0
    std_floor: NonNegativeFloat = 0.0


class Grouped(Section):
    """TRL's own group-relative advantages (GRPO, 2402.03300)."""

    type: Literal["grpo"] = "grpo"


class GrpoItem(Section):
    """One system: its questions, its start, its prompts, rewards and advantages."""

    questions: Path  # data/curated/train.parquet for the whole split, or a filtered file
    init: Path  # models/base, or an adapter that is folded in first
    modalities: tuple[str, ...] = MODALITIES
    prompts: tuple[str, ...] = ("reasoning",)  # forms, dealt to questions in turn
    rewards: dict[str, float]  # name -> weight
    advantages: Annotated[Grouped | Gba, Field(discriminator="type")] = Grouped()
    group: Annotated[int, Field(ge=2)] = 8  # rollouts a question
    questions_per_step: PositiveInt = 16
    steps: PositiveInt = 100
    learning_rate: PositiveFloat = 5e-4
    beta: NonNegativeFloat = 0.01
    clip: PositiveFloat = 0.2
    loss: Literal["grpo", "bnpo", "dr_grpo", "dapo"] = "bnpo"  # bnpo: mean over the batch's tokens
    temperature: PositiveFloat = 1.0
    max_new_tokens: PositiveInt = 64
    lora: Lora = Lora()


class Grpo(Section):
    items: dict[Name, GrpoItem]


class Arm(Section):
    """A model to judge: models/base, alone or with one adapter on it."""

    adapter: Path
    title: str
    family: Literal["base", "sft", "specialist", "merge", "rl"]


class Predict(Section):
    splits: tuple[Literal["val", "test", "unseen"], ...] = ("val", "test", "unseen")
    prompts: tuple[Literal["reasoning", "no_reasoning"], ...] = ("reasoning", "no_reasoning")
    engine: LocalEngine = TransformersEngine()
    sampling: Sampling = Sampling(temperature=0.0)
    arms: dict[Name, Arm]


class ReferenceJudge(Section):
    """Offline and deterministic: the verifier, and key facts looked up in the thinking. No language model."""

    type: Literal["reference"] = "reference"


class Judge(Section):
    judges: dict[Name, Annotated[ReferenceJudge | OpenAIEngine | GeminiEngine, Field(discriminator="type")]]
    prompt: str
    resamples: Annotated[int, Field(ge=200)] = 2000  # of the bootstrap
    baselines: tuple[str, ...] = ("base", "sft")


class Publish(Section):
    model_name: Name = "grandrounds"
    select_split: Literal["val"] = "val"


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
