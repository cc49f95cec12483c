"""PMC-VQA: questions with four options on figures of open-access articles.

Read: `RadGenome/PMC-VQA` (train.csv, test_clean.csv; with `files` also train_2.csv, test_2.csv, test.csv: Figure_path,
Question, Choice A to Choice D, Answer, Answer_label; pictures in images.zip, images_2.zip, or unpacked), and Parquet as
`UCSC-VLAA/MedVLThinker-pmc_vqa` has it (images, question, options as JSON by letter, answer_label, answer).

With traces (`pmc_vqa_traces`): `UCSC-VLAA/MedVLThinker-pmc_vqa-gpt_4o_reasoning-tokenized`, the same Parquet with
GPT-4o's `reasoning`, which becomes the explanation; its rows without one are left out. The article is the group.
"""

import re
from dataclasses import replace

from grandrounds.params import Columns
from grandrounds.sources.layout import Draft, Layout, Licence, plain, text
from grandrounds.sources.rows import Row
from grandrounds.sources.store import Store

_ARTICLE = re.compile(r"PMC\d+")
_FIGURES = "figures keep the licences of their articles, of which some forbid redistribution"


def read(row: Row, layout: Layout, store: Store) -> Draft:
    figure = row.values.get("Figure_path")
    article = _ARTICLE.search(figure) if isinstance(figure, str) else None
    return replace(plain(row, layout, store), group=article[0] if article else "")


LAYOUT = Layout(
    name="PMC-VQA",
    home="RadGenome/PMC-VQA",
    citation="Zhang et al., PMC-VQA: Visual Instruction Tuning for Medical Visual Question Answering, arXiv:2305.10415",
    licence=Licence("CC-BY-SA-4.0", redistribute=False, note=_FIGURES),
    tables={"train": ("train.csv", "train-*.parquet"), "test": ("test_clean.csv", "test-*.parquet")},
    columns=Columns(
        question=("Question", "question"),
        choices=("Choice A", "Choice B", "Choice C", "Choice D"),
        options=("options",),
        label=("Answer_label", "answer_label"),
        answer=("Answer", "Anwser", "answer"),
        image=("Figure_path", "images"),
        explanation=("reasoning",),
    ),
    more=("images*.zip",),
    read=read,
)

TRACES = replace(
    LAYOUT,
    name="PMC-VQA with GPT-4o's reasoning",
    home="UCSC-VLAA/MedVLThinker-pmc_vqa-gpt_4o_reasoning-tokenized",
    citation="Huang et al., MedVLThinker: Simple Baselines for Multimodal Medical Reasoning, arXiv:2508.02669",
    licence=Licence("not stated", redistribute=False, note=f"{_FIGURES}; the reasoning is GPT-4o's"),
    tables={"train": ("train*.parquet", "train*.jsonl")},
    left_out=lambda row, split: "" if row.problem or text(row, ("reasoning",)) else "has no reasoning",
)
