"""MedVLThinker-Eval: six public medical VQA benchmarks in one table, all with options.

Read: `UCSC-VLAA/MedVLThinker-Eval`, Parquet: images, question, options (JSON by letter, or one lettered option a line),
answer_label, answer, dataset_name. `dataset_name` becomes the topic. Questions of MedXpertQA
and MMMU may have several pictures.
"""

from grandrounds.params import Columns
from grandrounds.sources.layout import Layout, Licence

LAYOUT = Layout(
    name="MedVLThinker-Eval",
    home="UCSC-VLAA/MedVLThinker-Eval",
    citation="Huang et al., MedVLThinker: Simple Baselines for Multimodal Medical Reasoning, arXiv:2508.02669",
    licence=Licence("not stated", redistribute=False, note="six sets, each under its own licence"),
    tables={"test": ("test*.parquet",)},
    columns=Columns(options=("options",), label=("answer_label",), image=("images",), topic=("dataset_name",)),
)
