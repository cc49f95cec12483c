"""MMMU, its five subjects of health and medicine: college-level questions with options or short answers.

Read: `MMMU/MMMU`: <Subject>/{dev,validation}-*.parquet (id, question, options as a Python list, answer, image_1 to
image_7, img_type, subfield, explanation). The answers to its own test split are not public, so `test` reads validation
and `train` reads dev. All pictures stand before the text; the place of an only one (<image 1>) is not kept, those of
several are, as what the text calls them.
"""

import re
from dataclasses import replace

from grandrounds.params import Columns
from grandrounds.sources.layout import Draft, Layout, Licence, plain
from grandrounds.sources.rows import Row
from grandrounds.sources.store import Store

SUBJECTS = (
    "Basic_Medical_Science", "Clinical_Medicine", "Diagnostics_and_Laboratory_Medicine", "Pharmacy", "Public_Health",
)  # fmt: skip
_PLACE = re.compile(r"\s*<image \d>\s*")


def read(row: Row, layout: Layout, store: Store) -> Draft:
    pictures = [row.values[name] for name in (f"image_{number}" for number in range(1, 8)) if row.values.get(name)]
    row = replace(row, values={**row.values, "images": pictures})
    if row.values.get("options") not in (None, "", "[]"):  # then `answer` is a letter, and never an option's text
        layout = replace(layout, columns=layout.columns.model_copy(update={"label": ("answer",), "answer": ()}))
    draft = plain(row, layout, store)
    subject = next((each.replace("_", " ") for each in SUBJECTS if each in draft.id), "")
    question = draft.question if len(pictures) > 1 else _PLACE.sub(" ", draft.question).strip()
    return replace(draft, question=question, subject=subject)


_VALIDATION = tuple(f"{subject}/validation-*.parquet" for subject in SUBJECTS)

LAYOUT = Layout(
    name="MMMU, health and medicine",
    home="MMMU/MMMU",
    citation="Yue et al., MMMU: A Massive Multi-discipline Multimodal Understanding and Reasoning Benchmark for Expert "
    "AGI, CVPR 2024, arXiv:2311.16502",
    licence=Licence("Apache-2.0", redistribute=True),
    tables={
        "train": tuple(f"{subject}/dev-*.parquet" for subject in SUBJECTS),
        "validation": _VALIDATION,
        "test": _VALIDATION,
    },
    columns=Columns(
        options=("options",),
        image=("images",),
        id=("id",),
        topic=("subfield",),
        imaging=("img_type",),
        explanation=("explanation",),
    ),
    read=read,
)
