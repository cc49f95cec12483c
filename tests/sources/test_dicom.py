"""DICOM as scanners write it: pydicom's own test files, and what each transformation must do to known pixels."""

import io
from pathlib import Path
from typing import Any

import layouts
import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from grandrounds.domain.labelling import Label
from grandrounds.params import DicomSource
from grandrounds.sources import dicom
from grandrounds.sources.images import Gallery
from grandrounds.sources.intake import take
from grandrounds.sources.store import Refused


def file(pixels: np.ndarray, **tags: Any) -> Dataset:
    """A dataset of these pixels: [rows, columns] or [frames, rows, columns], or with a last axis of colour."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    colour = pixels.shape[-1] == 3
    made.Rows, made.Columns = pixels.shape[-3:-1] if colour else pixels.shape[-2:]
    made.SamplesPerPixel, made.PhotometricInterpretation = (3, "RGB") if colour else (1, "MONOCHROME2")
    made.BitsAllocated = made.BitsStored = 8 * pixels.dtype.itemsize
    made.HighBit, made.PixelRepresentation = made.BitsStored - 1, int(pixels.dtype.kind == "i")
    if colour:
        made.PlanarConfiguration = 0
    made.PixelData = pixels.tobytes()
    for name, given in {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2", "SOPInstanceUID": "1.2.3", **tags}.items():
        setattr(made, name, given)
    return made


def written(dataset: Dataset) -> bytes:
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def shown(dataset: Dataset, frame: int | None = None) -> np.ndarray:
    return np.asarray(dicom.render(dicom.parse(written(dataset)), frame))


RAMP = np.arange(0, 4096, 16, dtype=np.uint16).reshape(16, 16)


def test_a_window_is_applied_after_the_rescale() -> None:
    # HU = stored - 1024; the window of 400 around 40 reaches from -160 to 240
    seen = shown(file(RAMP, RescaleSlope=1, RescaleIntercept=-1024, WindowCenter=40, WindowWidth=400))
    hounsfield = RAMP.astype(int) - 1024
    expected = np.clip((hounsfield - 39.5) / 399 + 0.5, 0, 1) * 255  # PS3.3 C.11.2.1.2.1
    assert np.abs(seen - expected).max() <= 1


def test_the_window_means_the_same_grey_whatever_the_picture_holds() -> None:
    half = np.full((4, 4), 1000, dtype=np.uint16)
    half[0, 0] = 1100
    seen = shown(file(half, WindowCenter=1000, WindowWidth=1000))
    assert abs(int(seen[3, 3]) - 128) <= 1


def test_monochrome1_and_an_inverse_shape_are_inverted() -> None:
    plain = shown(file(RAMP)).astype(int)
    assert plain[0, 0] == 0 and plain[-1, -1] == 255
    for tags in ({"PhotometricInterpretation": "MONOCHROME1"}, {"PresentationLUTShape": "INVERSE"}):
        assert np.abs(shown(file(RAMP, **tags)) - (255 - plain)).max() <= 1  # rounding


def test_a_voi_lut_is_looked_up() -> None:
    lut = Dataset()
    lut.LUTDescriptor, lut.LUTData = [256, 0, 16], np.arange(65535, -1, -257, dtype=np.uint16).tobytes()
    seen = shown(file(np.arange(256, dtype=np.uint16).reshape(16, 16), VOILUTSequence=[lut]))
    assert (seen == 255 - np.arange(256).reshape(16, 16)).all()


def test_padding_does_not_set_the_greys() -> None:
    padded = RAMP.copy().astype(np.int16)
    padded[:4] = -30000
    seen = shown(file(padded, PixelPaddingValue=-30000))
    assert seen[:4].max() == 0 and seen[4].max() < 30 and seen[-1].min() > 200


def test_a_frame_is_chosen_and_has_its_own_window() -> None:
    frames = np.stack([RAMP, RAMP[::-1]])
    groups = []
    for center in (1000, 3000):
        window = Dataset()
        window.WindowCenter, window.WindowWidth = center, 1000
        group = Dataset()
        group.FrameVOILUTSequence = [window]
        groups.append(group)
    made = file(frames, NumberOfFrames=2, PerFrameFunctionalGroupsSequence=groups)
    first, second = shown(made, 0), shown(made, 1)
    assert (first > 0).sum() > (second > 0).sum() > 0 and first[-1].min() == 255 and second[0].min() == 255
    for frame, words in ((None, "has 2 frames; name one"), (2, "frame 2 is none of the 2")):
        with pytest.raises(Refused, match=words):
            shown(made, frame)


def test_colour_of_8_and_16_bits_and_rectangular_pixels() -> None:
    red = np.zeros((10, 20, 3), dtype=np.uint8)
    red[:, :10, 0] = 200
    assert shown(file(red))[0, 0].tolist() == [200, 0, 0]
    assert shown(file(red.astype(np.uint16) << 8))[0, 0].tolist() == [200, 0, 0]
    assert shown(file(red, PixelSpacing=[2.0, 1.0])).shape == (20, 20, 3)


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"PatientName": "Doe^Jane"}, "the tag PatientName may name a patient"),
        ({"PatientID": "4711"}, "the tag PatientID"),
        ({"PatientBirthDate": "19700101"}, "PatientBirthDate"),
        ({"BurnedInAnnotation": "YES"}, "burned into the pixels"),
        ({"Modality": "US"}, "US often has text burned in"),
        ({"PatientName": "Doe^Jane", "PatientIdentityRemoved": "YES", "BurnedInAnnotation": "YES"}, "burned"),
    ],
)
def test_what_may_name_a_patient_is_refused_unless_cleared(tags: dict[str, str], words: str) -> None:
    content = written(file(RAMP, **tags))
    with pytest.raises(Refused, match=words) as caught:
        dicom.render(dicom.parse(content))
    assert "Doe" not in caught.value.reason and "4711" not in caught.value.reason
    assert dicom.render(dicom.parse(content), cleared=True).size == (16, 16)


def test_a_file_that_says_it_was_de_identified_is_taken() -> None:
    tags = {"PatientID": "study-17", "PatientIdentityRemoved": "YES", "Modality": "US", "BurnedInAnnotation": "NO"}
    assert shown(file(RAMP, **tags)).shape == (16, 16)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"no dicom at all", "not a DICOM file"),
        (written(file(RAMP))[:-100], "cannot be decoded"),
        (written(file(np.full((4, 4), 7, np.uint16))), "all pixels have one value"),
        (written(file(RAMP, NumberOfFrames=3)), "name one"),
    ],
)
def test_damaged_or_empty(content: bytes, words: str) -> None:
    with pytest.raises(Refused, match=words):
        dicom.render(dicom.parse(content))


def test_a_header_that_promises_too_many_pixels_is_not_decoded() -> None:
    with pytest.raises(Refused, match="60000 x 60000 pixels"):
        dicom.render(dicom.parse(written(file(RAMP, Rows=60000, Columns=60000))))


# name -> (size, is colour) of files that pydicom ships
SHIPPED = {
    "CT_small.dcm": ((128, 128), False),
    "MR_small.dcm": ((64, 64), False),
    "MR_small_RLE.dcm": ((64, 64), False),
    "examples_palette.dcm": ((800, 350), True),
    "examples_ybr_color.dcm": ((320, 240), True),
    "SC_rgb_rle_2frame.dcm": ((100, 100), True),
    "SC_ybr_full_422_uncompressed.dcm": ((100, 100), True),
}


@pytest.mark.parametrize("name", SHIPPED)
def test_files_that_pydicom_ships(name: str) -> None:
    picture = dicom.render(pydicom.dcmread(str(get_testdata_file(name, download=False))), 0, cleared=True)
    size, colour = SHIPPED[name]
    assert picture.size == size and (picture.mode == "RGB") == colour
    assert np.asarray(picture).std() > 10


FETCHED = {  # of pydicom-data (the extra `dev`): modality, and the same picture uncompressed
    "JPEG2000.dcm": ("NM", "JPEG2000_UNC.dcm"),
    "693_J2KR.dcm": ("CT", "693_UNCR.dcm"),
    "MR2_J2KR.dcm": ("MR", "MR2_UNCR.dcm"),
    "RG1_J2KR.dcm": ("CR", "RG1_UNCR.dcm"),
    "US1_J2KR.dcm": ("US", "US1_UNCR.dcm"),
}


@pytest.mark.parametrize("name", FETCHED)
def test_compressed_files_look_like_their_originals(name: str) -> None:
    pytest.importorskip("gdcm")
    modality, plain = FETCHED[name]
    paths = [get_testdata_file(each, download=False) for each in (name, plain)]
    if None in paths:
        pytest.skip("pydicom-data is not installed")
    datasets = [pydicom.dcmread(str(path)) for path in paths]
    assert datasets[0].Modality == modality
    first, second = (np.asarray(dicom.render(each, cleared=True), dtype=int) for each in datasets)
    assert np.abs(first - second).mean() < 1


def test_a_chest_film_has_white_bones_and_black_air() -> None:
    path = get_testdata_file("RG1_UNCR.dcm", download=False)  # MONOCHROME1
    if path is None:
        pytest.skip("pydicom-data is not installed")
    picture = np.asarray(dicom.render(pydicom.dcmread(str(path)), cleared=True).resize((100, 100)), dtype=int)
    assert picture[40:50, 48:52].mean() > picture[40:50, 70:76].mean() + 30  # the spine, and a lung


def test_a_missing_decoder_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    dataset = pydicom.dcmread(str(get_testdata_file("JPGExtended.dcm", download=False)))  # 12 bits: few read that
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())  # the decoders are there
    with pytest.raises(Refused, match=r"JPEG Extended.*: decompress it first"):
        dicom.render(dataset, cleared=True)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Refused, match=r"JPEG Extended.*pip install 'grandrounds\[dicom\]'"):
        dicom.render(dataset, cleared=True)


def test_a_folder_of_dicom_with_its_questions(tmp_path: Path) -> None:
    root, images = tmp_path / "source", tmp_path / "images"
    (root / "files").mkdir(parents=True)
    images.mkdir()
    studies = {"a": "1.2.3.4", "b": "1.2.3.4", "c": "1.2.3.5"}
    for shift, (name, study) in enumerate(studies.items()):
        content = written(file(np.roll(RAMP, shift, 1), Modality="CT", StudyInstanceUID=study))
        (root / f"files/{name}.dcm").write_bytes(content)
    rows = [{"image": f"files/{name}.dcm", "frame": "", "question": "Which?", "answer": "a ramp"} for name in studies]
    rows += [{**rows[0], "image": "none.dcm"}, {**rows[0], "frame": "first"}, {**rows[0], "image": ""}]
    layouts.table(root / "questions.csv", rows)
    spec = DicomSource(type="dicom", role="train", path=root)
    found = take(
        "scans", spec, Gallery(images, 10**6, 64), lambda draft: Label(draft.imaging or "other", None, "", "imaging")
    )
    assert [question.specialty for question in found.questions] == ["CT", "CT", "CT", "other"]
    groups = [question.group for question in found.questions]
    assert groups[0] == groups[1] != groups[2] and "1.2.3" not in " ".join(groups)
    assert [(row.row, row.column) for row in found.quarantine] == [(5, "image"), (6, "frame")]
    assert found.questions[3].modality == "text"
