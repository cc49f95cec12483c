"""PathVQA: questions on pathology images of two textbooks and a digital library.

Read: `flaviagiammarino/path-vqa`, Parquet: image, question, answer. The authors' own release holds its questions in
pickles, which are never loaded here.
"""

from grandrounds.params import Columns
from grandrounds.sources.layout import Layout, Licence

LAYOUT = Layout(
    name="PathVQA",
    home="flaviagiammarino/path-vqa",
    citation="He et al., PathVQA: 30000+ Questions for Medical Visual Question Answering, arXiv:2003.10286",
    licence=Licence(
        "MIT", redistribute=False, note="the pictures' copyright is with the books' publishers and the PEIR library"
    ),
    tables={"train": ("train-*.parquet",), "validation": ("validation-*.parquet",), "test": ("test-*.parquet",)},
    columns=Columns(image=("image",)),
)
