"""m23k: 23 k medical questions in text with letters to choose from, and DeepSeek-R1's reasoning.

Read: `UCSC-VLAA/m23k-tokenized` (prompt, answer_letter, answer_string, reasoning; the options stand in the prompt, one
a line) and MedVLThinker's copy `UCSC-VLAA/MedVLThinker-m23k-tokenized` (question, options as JSON by letter,
answer_label, answer, reasoning), both Parquet; JSONL with these columns as well. Column names are those that the
authors' training code reads; the files themselves were not at hand.
"""

import re
from dataclasses import replace

from grandrounds.params import Columns
from grandrounds.sources import options
from grandrounds.sources.layout import Draft, Layout, Licence, plain, text
from grandrounds.sources.rows import Row
from grandrounds.sources.store import Refused, Store

INSTRUCTION = re.compile(r"^\s*Return your final response within \\boxed\{\}\.\s*")  # the prompt's, not the question's


def read(row: Row, layout: Layout, store: Store) -> Draft:
    question, given = INSTRUCTION.sub("", text(row, layout.columns.question, required=True)), row.values.get("options")
    if not given:
        question, given = options.split(question)
    if not given:
        raise Refused("no options: neither a column of them, nor lettered lines at the prompt's end", "prompt")
    return plain(replace(row, values={**row.values, "question": question, "options": given}), layout, store)


LAYOUT = Layout(
    name="m23k",
    home="UCSC-VLAA/m23k-tokenized",
    citation="Huang et al., m1: Unleash the Potential of Test-Time Scaling for Medical Reasoning, arXiv:2504.00869",
    licence=Licence("not stated", redistribute=False, note="drawn from MedQA, MedMCQA, HeadQA and PubMedQA"),
    tables={"train": ("train*.parquet", "train*.jsonl")},
    columns=Columns(
        question=("question", "prompt"),
        options=("options",),
        label=("answer_letter", "answer_label"),
        answer=("answer_string", "answer"),
        explanation=("reasoning",),
        topic=("source", "dataset_name"),
    ),
    pictures="none",
    read=read,
)
