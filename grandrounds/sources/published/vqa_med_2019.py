"""VQA-Med 2019 (ImageCLEF): modality, plane, organ and abnormality of radiology images.

Read: the authors' files (https://zenodo.org/records/10499039, github.com/abachaa/VQA-Med-2019), lines of cells between
pipes, with no header: All_QA_Pairs_train.txt and All_QA_Pairs_val.txt (image, question, answer),
VQAMed2019_Test_Questions_w_Ref_Answers.txt (image, category, question, answer; several right answers between `#`).
Pictures are <image>.jpg in Train_images, Val_images and the test set's images, as zip or unpacked.
"""

from dataclasses import replace

from grandrounds.params import Columns
from grandrounds.sources.layout import Draft, Layout, Licence, plain
from grandrounds.sources.rows import Row
from grandrounds.sources.store import Store

_THREE = ("image", "question", "answer")


def read(row: Row, layout: Layout, store: Store) -> Draft:
    name = str(row.values.get("image", ""))
    draft = plain(replace(row, values={**row.values, "image": f"{name}.jpg" if name else ""}), layout, store)
    answer, *others = [part.strip() for part in draft.answer.split("#") if part.strip()]
    return replace(draft, answer=answer, synonyms=others)


LAYOUT = Layout(
    name="VQA-Med 2019",
    home="https://zenodo.org/records/10499039",
    citation="Ben Abacha et al., VQA-Med: Overview of the Medical Visual Question Answering Task at ImageCLEF 2019",
    licence=Licence(
        "not checked", redistribute=False, note="pictures of MedPix, under its terms; see the Zenodo record"
    ),
    tables={
        "train": ("All_QA_Pairs_train.txt",),
        "validation": ("All_QA_Pairs_val.txt",),
        "test": ("VQAMed2019_Test_Questions_w_Ref_Answers.txt",),
    },
    columns=Columns(image=("image",), group=("image",), topic=("category",)),
    header={"train": _THREE, "validation": _THREE, "test": ("image", "category", "question", "answer")},
    read=read,
)
