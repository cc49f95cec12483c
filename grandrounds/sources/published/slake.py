"""SLAKE: questions on CT, MR and X-ray images in English and Chinese, of which the English ones are read.

Read: `BoKelvin/SLAKE`: train.json, validation.json, test.json (img_id, img_name, question, answer, q_lang, location,
modality, content_type, qid), pictures in imgs.zip or unpacked. The image is the group.
"""

from grandrounds.params import Columns
from grandrounds.sources.layout import Layout, Licence

LAYOUT = Layout(
    name="SLAKE",
    home="BoKelvin/SLAKE",
    citation="Liu et al., SLAKE: A Semantically-Labeled Knowledge-Enhanced Dataset for Medical VQA, ISBI 2021",
    licence=Licence("CC-BY-4.0", redistribute=True),
    tables={"train": ("train.json",), "validation": ("validation.json", "validate.json"), "test": ("test.json",)},
    columns=Columns(
        image=("img_name",),
        id=("qid",),
        group=("img_id",),
        topic=("content_type",),
        subject=("location",),
        imaging=("modality",),
    ),
    more=("imgs.zip",),
    left_out=lambda row, split: "" if row.problem or row.values.get("q_lang") == "en" else "is not in English",
)
