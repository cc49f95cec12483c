"""Every published layout, as small files: what is read of it, and what of it is refused."""

from pathlib import Path
from typing import Any

import layouts
import pytest

from grandrounds.domain.labelling import Label
from grandrounds.errors import UserError
from grandrounds.params import PublishedSource
from grandrounds.sources.catalogue import PUBLISHED
from grandrounds.sources.images import Gallery
from grandrounds.sources.intake import Taken, take
from grandrounds.sources.layout import Draft

TEST_ONLY = ("medvlthinker_eval", "medxpertqa_text", "medxpertqa_mm", "mmmu", "cv_bench")
LIVER = {"kind": "multiple_choice", "label": "B", "answer": "the liver", "options": list(layouts.OPTIONS.values())}
# type -> what its questions are, in order; words of the reasons of quarantine, in order; rows left out
EXPECTED: dict[str, tuple[list[dict[str, Any]], list[str], int]] = {
    "m23k": (
        [
            {"question": "Which organ beats?", "label": "A", "explanation": "It pumps blood.", "modality": "text"},
            {"question": "Which organ makes bile?", **LIVER},
        ],
        ["options: the options cannot be parsed"],
        0,
    ),
    "pmc_vqa": (
        [{**LIVER, "group": "pmc_vqa/PMC1064097"}, {**LIVER, "group": "pmc_vqa/PMC1064097"}],
        ["Figure_path: there is no file 'PMC2_F9.jpg'"],
        0,
    ),
    "pmc_vqa_traces": ([{"answer": "the lung", "label": "D", "explanation": "Air."}], [], 1),
    "medvlthinker_eval": (
        [
            {"label": "D", "topic": "slake"},
            {"question": "And?", "label": "D", "answer": "the lung"},
            {"label": "D", "modality": "image_text"},
        ],
        [],
        0,
    ),
    "vqa_rad": ([{"kind": "yes_no", "answer": "yes", "group": "vqa_rad/synpic1.jpg", "topic": "SIZE"}], [], 1),
    "slake": (
        [{"kind": "open_ended", "answer": "Lung", "group": "slake/1", "topic": "Abnormality"}],
        ["img_name: there is no file 'xmlab2/source.jpg'"],
        1,
    ),
    "vqa_med_2019": (
        [{"question": 'what "plane" is this?', "answer": "axial"}, {"kind": "yes_no", "answer": "no"}],
        ["2 cells, but there are 3 columns"],
        0,
    ),
    "path_vqa": ([{"answer": "necrosis", "modality": "image_text"}], ["question: empty"], 0),
    "silvar_med": ([{"answer": "A mass.", "explanation": "Bright.", "group": "silvar_med/xmlab1.jpg"}], [], 0),
    "omnimedvqa": (
        [
            {"answer": "Glaucoma", "label": "B", "topic": "Disease Diagnosis"},
            {"options": ["Myopia", "Glaucoma", "Cataract"]},
        ],
        ["id: id 'ACRIMA_0000' stands already in row 1"],
        0,
    ),
    "medxpertqa_text": ([{"question": "Why?", "label": "J", "answer": "cause j", "topic": "Diagnosis"}], [], 0),
    "medxpertqa_mm": (
        [{"question": "Why?", "label": "A", "modality": "image_text"}],
        ["images: there is no file 'MM-0-b.jpeg'"],
        0,
    ),
    "mmmu": (
        [
            {"question": "Which is it?", "label": "B", "answer": "B's"},
            {"kind": "open_ended", "answer": "12 mg"},
            {"label": "B"},
        ],
        [],
        0,
    ),
    "cv_bench": ([{"label": "B", "answer": "3", "topic": "Count", "group": "cv_bench/000.jpg"}], [], 0),
}  # fmt: skip


def by_subject(draft: Draft) -> Label:
    return Label(draft.subject or "other", None, "", "subject")


def taken(kind: str, root: Path, **more: Any) -> Taken:
    """The set read from small files of its layout under `root`."""
    (root / "source").mkdir()
    (root / "images").mkdir()
    getattr(layouts, kind)(root / "source")
    values = {"role": "test" if kind in TEST_ONLY else "train", **more}
    spec = PublishedSource(type=kind, path=root / "source", **values)  # type: ignore[arg-type]
    return take("mine", spec, Gallery(root / "images", 10**6, 64), by_subject)


def test_every_published_type_is_tried_here() -> None:
    assert set(EXPECTED) == set(PUBLISHED)


@pytest.mark.parametrize("kind", EXPECTED)
def test_a_published_layout_is_read(kind: str, tmp_path: Path) -> None:
    questions, reasons, left_out = EXPECTED[kind]
    found = taken(kind, tmp_path)
    for question, expected in zip(found.questions, questions, strict=True):
        assert {name: getattr(question, name) for name in expected} == expected
        assert question.conclusion == question.answer and question.source == "mine"
        assert (question.modality == "image_text") == bool(question.image) != (PUBLISHED[kind].pictures == "none")
        assert not question.image or (tmp_path / "images" / question.image).is_file()
    assert len({question.id for question in found.questions}) == len(found.questions)
    for row, words in zip(found.quarantine, reasons, strict=True):
        assert f"{row.column}: {row.reason}".removeprefix(": ").startswith(words)
        assert row.file and row.row and row.source == "mine"
    assert found.left_out.total() == left_out
    assert found.read == len(questions) + len(reasons)


def test_a_question_may_have_several_pictures(tmp_path: Path) -> None:
    last = taken("mmmu", tmp_path).questions[-1]
    assert len(set(last.images)) == 2 and last.images == [last.image, *last.more_images]
    assert all((tmp_path / "images" / name).is_file() for name in last.images)
    assert "<image 1>" in last.question  # what the text calls them


def test_the_other_split_is_the_other_rows(tmp_path: Path) -> None:
    found = taken("vqa_rad", tmp_path, role="test")
    assert [question.answer for question in found.questions] == ["24"]


def test_what_rules_look_at_reaches_them(tmp_path: Path) -> None:
    assert taken("slake", tmp_path).questions[0].specialty == "Chest"


def test_a_split_that_a_set_has_not_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"curate.sources.mine: CV-Bench has no train split; it has test"):
        taken("cv_bench", tmp_path, role="train")


def test_a_folder_without_the_tables_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no table nothing\*\.csv; check `path`"):
        taken("slake", tmp_path, files=("nothing*.csv",))


def test_a_limit_is_of_rows(tmp_path: Path) -> None:
    found = taken("omnimedvqa", tmp_path, limit=1)
    assert (len(found.questions), len(found.quarantine)) == (1, 0)


def test_too_much_quarantine_stops_with_the_first_reason(tmp_path: Path) -> None:
    found = taken("pmc_vqa", tmp_path)
    found.refuse_above("mine", 0.5)
    with pytest.raises(UserError, match=r"1 of 3 rows.*train.csv, row 4: Figure_path: there is no file"):
        found.refuse_above("mine", 0.1)


def test_licences_say_what_they_forbid() -> None:
    open_ones = {kind for kind, layout in PUBLISHED.items() if layout.licence.redistribute}
    assert open_ones == {"vqa_rad", "slake", "mmmu"}
    assert all(layout.licence.note for kind, layout in PUBLISHED.items() if kind not in open_ones)
