"""NIfTI: a slice looks the same whatever axes its file has, with the patient's right on the left."""

from pathlib import Path

import layouts
import nibabel
import numpy as np
import pytest

from grandrounds.params import NiftiSource
from grandrounds.sources import nifti
from grandrounds.sources.images import Gallery
from grandrounds.sources.intake import labeller, take
from grandrounds.sources.store import Refused

SHAPE = (6, 8, 10)  # right, anterior, superior


def volume(corner: tuple[int, int, int]) -> np.ndarray:
    """[x, y, z] to right, front and top; dark but for one bright corner (0: left, back, bottom; 1: the other end)."""
    made = np.zeros(SHAPE, dtype=np.float32)
    made[tuple(slice(-3, None) if end else slice(None, 3) for end in corner)] = 100
    return made


def saved(path: Path, values: np.ndarray, affine: np.ndarray | None = None) -> Path:
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine), path)
    return path


@pytest.mark.parametrize(
    ("plane", "at", "corner", "where"),
    [
        ("axial", 9, (1, 1, 1), "top left"),  # right is on the left, front up
        ("axial", 9, (0, 0, 1), "bottom right"),
        ("coronal", 7, (1, 1, 1), "top left"),  # right on the left, head up
        ("coronal", 7, (0, 1, 0), "bottom right"),
        ("sagittal", 5, (1, 1, 1), "top left"),  # looks to the left, head up
        ("sagittal", 5, (1, 0, 1), "top right"),
    ],
)
def test_where_a_corner_is_seen(plane: str, at: int, corner: tuple[int, int, int], where: str, tmp_path: Path) -> None:
    seen = np.asarray(nifti.render(saved(tmp_path / "a.nii.gz", volume(corner)), plane, at))
    rows = slice(None, 3) if "top" in where else slice(-3, None)
    columns = slice(None, 3) if "left" in where else slice(-3, None)
    assert seen[rows, columns].min() == 255 and (seen == 255).sum() == 9


def test_the_order_of_the_files_axes_changes_nothing(tmp_path: Path) -> None:
    values = np.random.default_rng(7).random(SHAPE).astype(np.float32)
    plain = nifti.render(saved(tmp_path / "a.nii", values), "axial", 4)
    turned = np.flip(values, 0).transpose(2, 0, 1)  # first axis up, second to the left, third to the front
    affine = np.array([[0, -1, 0, 5], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1]], dtype=float)
    other = nifti.render(saved(tmp_path / "b.nii", turned, affine), "axial", 4)
    assert np.array_equal(plain, other)


def test_voxels_become_square(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.nii", volume((1, 1, 1)), np.diag([1.0, 1.0, 3.0, 1.0]))
    assert nifti.render(path, "coronal", 7).size == (6, 30)


def test_what_is_no_slice_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.nii.gz", volume((1, 1, 1)))
    (tmp_path / "cut.nii.gz").write_bytes(path.read_bytes()[:60])
    (tmp_path / "text.nii").write_text("no volume")
    four = saved(tmp_path / "four.nii", np.zeros((2, 2, 2, 2), dtype=np.float32))
    for file, plane, at, words in (
        (path, "axial", 10, "slice 10: there are 10 axial ones"),
        (path, "axial", None, "slice None"),
        (path, "oblique", 1, "plane 'oblique' is none of"),
        (four, "axial", 0, "not a volume of three axes"),
        (tmp_path / "cut.nii.gz", "axial", 0, "not a NIfTI volume"),
        (tmp_path / "text.nii", "axial", 0, "not a NIfTI volume"),
    ):
        with pytest.raises(Refused, match=words):
            nifti.render(file, plane, at)


def test_a_folder_of_volumes_with_its_questions(tmp_path: Path) -> None:
    root, images = tmp_path / "source", tmp_path / "images"
    root.mkdir()
    images.mkdir()
    saved(root / "brain.nii.gz", np.random.default_rng(7).random(SHAPE).astype(np.float32))
    row = {"image": "brain.nii.gz", "plane": "Axial", "slice": 4, "question": "Which plane?", "answer": "axial"}
    layouts.jsonl(root / "questions.jsonl", [row, {**row, "slice": 5}, {**row, "slice": 50}])
    found = take("mr", NiftiSource(type="nifti", role="test", path=root), Gallery(images, 10**6, 64), labeller(()))
    assert [question.group for question in found.questions] == ["brain.nii.gz"] * 2
    assert len(set(question.image for question in found.questions)) == 2
    assert [row.column for row in found.quarantine] == ["slice"]
