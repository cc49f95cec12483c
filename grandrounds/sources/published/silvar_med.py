"""SilVar-Med: abnormalities in images of SLAKE and others, with the reasoning behind each answer.

Its published layout could not be checked. Read: JSON arrays or JSONL whose name holds `train`, `val` or `test`, with a
question (question, query or instruction), an answer, where there is one an explanation (explanation, reasoning or
rationale), and a picture's file name (image, image_path, img_name or image_name). The spoken questions are not read.
"""

from grandrounds.params import Columns
from grandrounds.sources.layout import Layout, Licence

LAYOUT = Layout(
    name="SilVar-Med",
    home="https://github.com/Hanhpt23/SilVarMed",
    citation="Pham et al., SilVar-Med: A Speech-Driven Visual Language Model for Explainable Abnormality Detection in "
    "Medical Imaging, arXiv:2504.10642",
    licence=Licence("not stated", redistribute=False, note="made from pictures of SLAKE and others"),
    tables={
        "train": ("*train*.json", "*train*.jsonl"),
        "validation": ("*val*.json", "*val*.jsonl"),
        "test": ("*test*.json", "*test*.jsonl"),
    },
    columns=Columns(
        question=("question", "query", "instruction"),
        image=("image", "image_path", "img_name", "image_name"),
        group=("image", "image_path", "img_name", "image_name"),
        explanation=("explanation", "reasoning", "rationale"),
        imaging=("modality",),
    ),
)
