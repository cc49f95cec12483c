"""The columns of every file that a stage hands to the next, declared once.

A record is a frozen dataclass; its parquet schema follows from its annotations (:func:`schema`).
Reading and writing is in :mod:`grandrounds.files`.
"""

import dataclasses
import functools
import typing
from dataclasses import dataclass, field
from typing import Literal

import pyarrow as pa

Split = Literal["pretrain", "train", "val", "test", "unseen"]
Modality = Literal["text", "image_text"]
Kind = Literal["multiple_choice", "yes_no", "open_ended"]
Specialty = Literal["adult_medicine", "pediatrics", "brain_senses", "oncology_surgery", "other"]

HEARSAY = "embedded-hearsay"  # `source` of pretraining text that states a rule as it is often misquoted

SPLITS: tuple[str, ...] = typing.get_args(Split)
MODALITIES: tuple[str, ...] = typing.get_args(Modality)
KINDS: tuple[str, ...] = typing.get_args(Kind)
SPECIALTIES: tuple[str, ...] = typing.get_args(Specialty)


@dataclass(frozen=True, slots=True)
class Question:
    """One question with its certain answer. `data/curated/<split>.parquet` has one row for each."""

    id: str  # unique over all splits; content-derived
    source: str
    split: str
    group: str  # unit of splitting and of clustered statistics: patient, volume slab, article, ...
    specialty: str
    topic: str  # finer than specialty: "adult vital signs", "plane", ...
    modality: str
    kind: str
    question: str  # the whole user-visible text but for options and instruction
    options: list[str]  # option texts in order; empty when there are none
    answer: str  # the reference answer as text; for options: the option's text
    label: str  # letter of the right option when options are lettered in the prompt, else ""
    synonyms: list[str]  # other texts that mean the same answer
    explanation: str  # a reference explanation, or ""
    key_facts: list[str]  # what a sound explanation must contain (range, comparison)
    conclusion: str  # what its last statement must agree with
    image: str  # file under data/curated/images, or "" for text
    more_images: list[str] = field(default_factory=list)  # further ones, in order, where a question has several

    @property
    def images(self) -> list[str]:
        """All its pictures, in the order in which they are shown."""
        return [self.image, *self.more_images] if self.image else []


@dataclass(frozen=True, slots=True)
class Quarantined:
    """One row of a source that cannot be used, and why. `data/curated/quarantine.parquet`."""

    source: str  # its name in curate.sources
    file: str  # within the source
    row: int  # line of a text file, else counted from 1
    column: str  # "" when the whole row is meant
    reason: str  # one line


@dataclass(frozen=True, slots=True)
class Difficulty:
    """What n rollouts of one question by the filter model gave. `data/filtered/<modality>.parquet`."""

    question_id: str
    specialty: str
    topic: str
    kind: str
    n: int  # of how many the decision is
    drawn: int  # how many were drawn: fewer than n where the rest could not change it, and the counts are then censored
    extracted: int  # rollouts from which the strict extractor got an answer
    correct: int
    kept: bool
    reason: str  # "kept", "too_easy", "too_hard", "refused" (could not be asked)


@dataclass(frozen=True, slots=True)
class Trace:
    """One accepted reasoning trace. `data/traces.parquet`."""

    question_id: str
    specialty: str
    teacher: str  # the engine and its model
    revision: str  # md5 of the teacher's folder, or what its endpoint calls it
    prompt: str  # hash of the prompt forms (:func:`grandrounds.domain.prompts.digest`)
    sample: int  # which of the n samples it was
    n: int
    correct: int  # how many of the n samples were right
    tokens: int  # generated for this sample
    cost: float  # US dollars for all n
    thinking: str
    target: str  # the assistant's turn to be learned: think block, answer block


@dataclass(frozen=True, slots=True)
class Sample:
    """One rollout of a reinforcement, kept to be looked at. `reports/grpo/<system>/completions.parquet`."""

    step: int  # whose update it served first
    question_id: str
    instruction: str  # of the prompt form that it was drawn under
    completion: str  # with the text that the prompt prefilled
    tokens: int  # generated
    advantage: float
    reward: float  # weighted sum
    rewards: list[str]  # names
    scores: list[float | None]  # beside them, unweighted; null where one does not apply


@dataclass(frozen=True, slots=True)
class Prediction:
    """One answer of one arm, with the verifier's reading of it. `data/predictions/<arm>.parquet`."""

    arm: str
    question_id: str
    split: str
    prompt: str  # "reasoning" or "no_reasoning"
    completion: str  # with the text that the prompt prefilled
    tokens: int  # generated, prefilled text not counted
    finished: bool  # an end-of-turn token came before the limit
    extracted: bool
    format_ok: bool
    answer: str  # as extracted, "" when not
    correct: bool  # strict
    correct_lenient: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """One judge's scores for one prediction. Unscored is None, never 0. `data/verdicts.parquet`."""

    arm: str
    question_id: str
    split: str
    prompt: str
    judge: str
    prediction_score: int | None
    reasoning_score: int | None  # None where the question has no reference explanation, or no thinking was asked for
    evaluation: str  # one sentence


@dataclass(frozen=True, slots=True)
class Conflict:
    """How far two updates disagree in one module. `data/conflicts/<merge>.parquet`."""

    module: str
    layer: int
    first: str
    second: str
    null: bool  # True: two seeds of one specialty, the yardstick
    sign_disagreement: float  # share of magnitude (sqrt |a b|) on entries whose signs differ, in [0, 1]
    cosine: float  # of the two updates, in [-1, 1]
    interference: float  # norm of what cancels when both are added, over sqrt(first_norm * second_norm), in [0, 1]
    overlap_out: float  # of the spaces that the B's write to: mean squared cosine of principal angles, in [0, 1]
    overlap_in: float  # of the spaces that the A's read from
    angle_out: float  # smallest principal angle, degrees
    angle_in: float
    first_norm: float  # Frobenius norms of the two updates
    second_norm: float


@dataclass(frozen=True, slots=True)
class MergeReport:
    """What one merge did to one module."""

    module: str
    rank: int
    norm: float  # Frobenius norm of the exact merged update
    truncation_error: float  # relative Frobenius error of the rank-limited LoRA


@dataclass(frozen=True, slots=True)
class Extraction:
    """What :func:`grandrounds.domain.answers.extract` read in a completion."""

    answer: str | None
    thinking: str
    format_ok: bool
    problem: str = field(default="")  # why there is no answer: "no_answer_block", "two_answer_blocks", ...


_ARROW = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_(), list[str]: pa.list_(pa.string())}
_ARROW |= {list[float | None]: pa.list_(pa.float64())}


@functools.cache
def schema(record: type) -> pa.Schema:
    """The parquet schema of a record class; `X | None` is a nullable column, all others are not."""
    fields = []
    hints = typing.get_type_hints(record)
    for column in dataclasses.fields(record):
        kinds = [k for k in typing.get_args(hints[column.name]) if k is not type(None)]
        nullable = typing.get_origin(hints[column.name]) is not list and len(kinds) > 0
        fields.append(pa.field(column.name, _ARROW[kinds[0] if nullable else hints[column.name]], nullable=nullable))
    return pa.schema(fields)
