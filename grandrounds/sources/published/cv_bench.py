"""CV-Bench: counting, relation, depth and distance on everyday images, none of them medical (RARL's second benchmark).

Read: `nyu-visionx/CV-Bench`: test_2d.parquet and test_3d.parquet (idx, type, task, image, question, choices, answer as
"(A)", filename, source_filename).
"""

from grandrounds.params import Columns
from grandrounds.sources.layout import Layout, Licence

LAYOUT = Layout(
    name="CV-Bench",
    home="nyu-visionx/CV-Bench",
    citation="Tong et al., Cambrian-1: A Fully Open, Vision-Centric Exploration of Multimodal LLMs, arXiv:2406.16860",
    licence=Licence(
        "Apache-2.0", redistribute=False, note="pictures of COCO, ADE20K and Omni3D, under their own terms"
    ),
    tables={"test": ("test_2d.parquet", "test_3d.parquet")},
    columns=Columns(
        options=("choices",),
        label=("answer",),
        answer=(),
        image=("image",),
        group=("source_filename",),
        topic=("task",),
    ),
)
