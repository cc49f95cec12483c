"""MedXpertQA: expert-level questions with ten (Text) or five (MM) options.

Read: `TsinghuaC3I/MedXpertQA`: Text/{dev,test}.jsonl and MM/{dev,test}.jsonl (id, question, options by letter, label,
images as file names, medical_task, body_system, question_type), pictures in images.zip or unpacked. The options stand
in the question too ("Answer Choices: (A) ..."), and are taken off it. A question may have several pictures.
"""

from dataclasses import replace

from grandrounds.params import Columns
from grandrounds.sources.layout import Draft, Layout, Licence, plain
from grandrounds.sources.rows import Row
from grandrounds.sources.store import Store


def read(row: Row, layout: Layout, store: Store) -> Draft:
    draft = plain(row, layout, store)
    return replace(draft, question=draft.question.split("\nAnswer Choices:")[0].strip())


TEXT = Layout(
    name="MedXpertQA Text",
    home="TsinghuaC3I/MedXpertQA",
    citation="Zuo et al., MedXpertQA: Benchmarking Expert-Level Medical Reasoning and Understanding, arXiv:2501.18362",
    licence=Licence("MIT", redistribute=False, note="the authors ask not to show its questions in public"),
    tables={"train": ("Text/dev.jsonl",), "test": ("Text/test.jsonl",)},
    columns=Columns(
        options=("options",),
        label=("label",),
        id=("id",),
        topic=("medical_task",),
        subject=("body_system",),
    ),
    pictures="none",
    read=read,
)

MM = replace(
    TEXT,
    name="MedXpertQA MM",
    tables={"train": ("MM/dev.jsonl",), "test": ("MM/test.jsonl",)},
    columns=TEXT.columns.model_copy(update={"image": ("images",)}),
    pictures="required",
    more=("images.zip",),
)
