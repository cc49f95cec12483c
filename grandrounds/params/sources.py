"""Where questions come from: one class a kind of source, chosen by `type`."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PositiveInt, model_validator

from grandrounds.params.section import Fraction, Section
from grandrounds.records import Specialty

Published = Literal[
    "m23k", "pmc_vqa", "pmc_vqa_traces", "medvlthinker_eval", "vqa_rad", "slake", "vqa_med_2019", "path_vqa",
    "silvar_med", "omnimedvqa", "medxpertqa_text", "medxpertqa_mm", "mmmu", "cv_bench",
]  # fmt: skip
Role = Literal["train", "test", "unseen"]  # the split that a source feeds; `val` is carved from train


class EmbeddedSource(Section):
    """The corpus that ships with the project: rule-based vignettes and MNI152 slices. Feeds every split."""

    type: Literal["embedded"] = "embedded"
    pretrain: PositiveInt = 6000
    train: PositiveInt = 1600
    val: PositiveInt = 400
    test: PositiveInt = 1000
    unseen: PositiveInt = 400
    image_share: Fraction = 0.3
    image_size: Annotated[int, Field(ge=28, multiple_of=28)] = 112


class FileSource(Section):
    """What every source of files has: the split that it feeds, and where it is, on the hub or on this machine."""

    role: Role
    path: Path | None = None  # a folder, or one table; only what lies under data/sources is watched by DVC
    repository: str | None = None  # a dataset on the Hugging Face hub, such as BoKelvin/SLAKE, at `revision`
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")] | None = None
    files: tuple[str, ...] = ()  # globs of the tables to read; none: those that the type knows
    limit: PositiveInt | None = None  # rows to read, from the first on

    @model_validator(mode="after")
    def _one_place(self) -> "FileSource":
        if (self.path is None) == (self.repository is None):
            raise ValueError("needs either 'path' or 'repository' (with 'revision')")
        if (self.repository is None) != (self.revision is None):
            raise ValueError("'repository' and 'revision' (the commit, 40 hex digits) go together")
        return self


class PublishedSource(FileSource):
    """A published set in the layout in which its authors, or the hub, give it out (grandrounds/sources/)."""

    type: Published
    split: Literal["train", "validation", "test"] | None = None  # of the published set; none: as `role` says


def _several(given: object) -> object:
    return (given,) if isinstance(given, str) else given


Names = Annotated[tuple[str, ...], BeforeValidator(_several)]  # in params.yaml one name, or a list of them


class Columns(Section):
    """Which column of a table holds what. Several names: the first one that the row has."""

    question: Names = ("question",)
    answer: Names = ("answer",)  # as text; with options also a letter, or a number counted from 0
    options: Names = ()  # JSON (list, or object by letter), a list, or one option a line
    choices: Names = ()  # instead of `options`: one column an option, in order
    label: Names = ()  # letter of the right option
    image: Names = ()  # file name, or the picture itself as the hub stores it
    id: Names = ()  # unique in the source, if there is one
    group: Names = ()  # patient, study, article: never divided between splits
    explanation: Names = ()
    topic: Names = ()
    specialty: Names = ()  # one of ours; else the rules of curate.specialties decide
    subject: Names = ()  # what those rules look at: field of medicine, organ
    imaging: Names = ()  # and how the picture was taken: CT, histology
    frame: Names = ()  # of a multi-frame DICOM file, counted from 0
    plane: Names = ()  # of a NIfTI volume: axial, coronal, sagittal
    slice: Names = ()  # of a NIfTI volume, counted from 0 from left, back, bottom


class OwnSource(FileSource):
    """Data that no publisher describes: who has it says what may be done with it."""

    columns: Columns = Columns()
    licence: str = "not stated"
    redistribute: bool = False  # whether questions and pictures may stand in what `publish` hands on


class TableSource(OwnSource):
    """CSV, TSV, JSON, JSONL or Parquet, with pictures in files beside it or in the table."""

    type: Literal["table"]


class ChatSource(OwnSource):
    """JSONL of conversations: `messages` with role and content, and `images` (TRL's and LLaMA-Factory's format)."""

    type: Literal["chat"]


class DicomSource(OwnSource):
    """A folder of DICOM files and a table of questions that names them in its `image` column."""

    type: Literal["dicom"]
    columns: Columns = Columns(image=("image",), frame=("frame",))
    cleared: bool = False  # you have seen to it that neither tags nor pixels name a patient


class NiftiSource(OwnSource):
    """A folder of NIfTI volumes and a table of questions that names volume, plane and slice."""

    type: Literal["nifti"]
    columns: Columns = Columns(image=("image",), plane=("plane",), slice=("slice",))


FilesOnly = Annotated[
    PublishedSource | TableSource | ChatSource | DicomSource | NiftiSource, Field(discriminator="type")
]
AnySource = Annotated[
    EmbeddedSource | PublishedSource | TableSource | ChatSource | DicomSource | NiftiSource, Field(discriminator="type")
]


class SpecialtyRule(Section):
    """A question whose `look` has one of `words`, as whole words, is of `specialty`."""

    specialty: Specialty
    words: Annotated[Names, Field(min_length=1)]
    look: Literal["subject", "imaging", "question", "any"] = "any"


class Duplicates(Section):
    """When two questions, or two pictures, count as one (`domain/duplicates.py`, `domain/pictures.py`)."""

    text: Annotated[float, Field(ge=0.6, le=1)] = 0.85  # Jaccard similarity of shingles, at least
    image: Annotated[float, Field(gt=0, le=1)] = 0.99  # correlation of small copies, at least
