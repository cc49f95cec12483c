"""VQA-RAD: questions that clinicians asked about radiology images of MedPix.

Read: the authors' `VQA_RAD Dataset Public.json` with the folder `VQA_RAD Image Folder` (qid, phrase_type, image_name,
image_organ, question, question_type, answer; phrase_type says which rows are test), and `flaviagiammarino/vqa-rad`,
Parquet: image, question, answer. The image is the group.
"""

from grandrounds.params import Columns
from grandrounds.sources.layout import Layout, Licence
from grandrounds.sources.rows import Row


def _other_split(row: Row, split: str) -> str:
    phrase = row.values.get("phrase_type")
    is_test = isinstance(phrase, str) and phrase.startswith("test")
    return "is of the other split" if phrase is not None and is_test != (split == "test") else ""


_PUBLIC = "VQA_RAD Dataset Public.json"

LAYOUT = Layout(
    name="VQA-RAD",
    home="flaviagiammarino/vqa-rad",
    citation="Lau et al., A dataset of clinically generated visual questions and answers about radiology images, "
    "Scientific Data 5, 2018",
    licence=Licence("CC0-1.0", redistribute=True),
    tables={"train": ("train-*.parquet", _PUBLIC), "test": ("test-*.parquet", _PUBLIC)},
    columns=Columns(
        image=("image_name", "image"),
        id=("qid",),
        group=("image_name",),
        topic=("question_type",),
        subject=("image_organ",),
    ),
    left_out=_other_split,
)
