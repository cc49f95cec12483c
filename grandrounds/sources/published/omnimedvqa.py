"""OmniMedVQA: 42 open and more restricted sets of medical images, asked about with up to four options.

Read: the authors' folder or OmniMedVQA.zip (foreverbeliever/OmniMedVQA): QA_information/<access>/<set>.json
(question_id, dataset, question_type, modality_type, question, option_A to option_D, gt_answer, image_path) and
Images/. It has no splits of its own: what is read can be train or test. `files: [QA_information/Open-access/*.json]`
leaves out what the restricted sets would need.
"""

from grandrounds.params import Columns
from grandrounds.sources.layout import Layout, Licence

_ALL = ("QA_information/*/*.json",)

LAYOUT = Layout(
    name="OmniMedVQA",
    home="foreverbeliever/OmniMedVQA",
    citation="Hu et al., OmniMedVQA: A New Large-Scale Comprehensive Evaluation Benchmark for Medical LVLM, CVPR 2024, "
    "arXiv:2402.09181",
    licence=Licence("not checked", redistribute=False, note="42 sets and more, each under its own licence"),
    tables={"train": _ALL, "test": _ALL},
    columns=Columns(
        answer=("gt_answer",),
        choices=("option_A", "option_B", "option_C", "option_D", "option_E"),
        image=("image_path",),
        id=("question_id",),
        topic=("question_type",),
        subject=("dataset",),
        imaging=("modality_type", "modality"),  # one row of the published files has the second name
    ),
    more=("*.zip",),
)
