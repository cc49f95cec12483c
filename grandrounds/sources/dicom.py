"""DICOM: one frame of a file as a reader at a workstation would first see it.

The pixels go through the transformations of PS3.3 C.11 and PS3.4 N.2, which pydicom has: modality LUT or rescale, VOI
LUT or window (the first; without one, from the darkest to the brightest half percent), then the photometric
interpretation: MONOCHROME1 and an inverse presentation LUT are inverted, palettes looked up, YBR brought to RGB.
Rectangular pixels become square. Overlays are not drawn.

A file that may name a patient is refused: tags that identify, unless the file says that identity was removed; text
burned into the pixels, or a kind of picture that often has some and a file that does not say it has none. `cleared` is
the user's word that both were seen to. No tag is ever kept with the picture.
"""

import copy
import importlib.util
import io
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from grandrounds.sources.layout import Draft, Layout, plain, text, value
from grandrounds.sources.rows import Row
from grandrounds.sources.store import Refused, Store

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

BYTES = 1 << 30  # of one file
IDENTIFYING = (
    "PatientName", "PatientID", "PatientBirthDate", "OtherPatientIDs", "OtherPatientNames", "PatientAddress",
    "PatientTelephoneNumbers", "PatientMotherBirthName", "MilitaryRank", "MedicalRecordLocator",
)  # fmt: skip
USED = (
    "Rows", "Columns", "NumberOfFrames", "BitsStored", "PhotometricInterpretation", "WindowWidth", "WindowCenter",
    "VOILUTSequence", "ModalityLUTSequence", "PixelPaddingValue", "PresentationLUTShape", "PixelSpacing",
    "PixelAspectRatio", "Modality", "StudyInstanceUID", "BurnedInAnnotation", "PatientIdentityRemoved",
)  # fmt: skip
OFTEN_BURNED_IN = ("US", "IVUS", "SC", "XC", "ES", "GM", "OT", "XA", "RF", "ECG")  # modalities: text is common there
HALF_PERCENT = (0.5, 99.5)  # percentiles


def reader(cleared: bool, max_pixels: int) -> Any:
    """How a row of a DICOM source is read."""

    def read(row: Row, layout: Layout, store: Store) -> Draft:
        draft = plain(row, replace(layout, pictures="none"), store)
        name, given = value(row, layout.columns.image)
        if given in (None, ""):
            return draft
        try:
            file = store.read(store.find(str(given)), BYTES)
            dataset = parse(file)
            picture = render(dataset, whole(row, layout.columns.frame), cleared=cleared, max_pixels=max_pixels)
        except Refused as refused:
            raise refused.at(name) from None
        study = str(dataset.get("StudyInstanceUID", ""))  # a UID is not told on, but it keeps a study together
        group = draft.group or (f"study-{sha256(study.encode()).hexdigest()[:16]}" if study else "")
        return replace(
            draft, pictures=[picture], group=group, imaging=draft.imaging or str(dataset.get("Modality", ""))
        )

    return read


def whole(row: Row, names: tuple[str, ...]) -> int | None:
    """A cell as a whole number, counted from 0; None when it is empty."""
    given = text(row, names)
    if not given:
        return None
    if not given.isdecimal():
        raise Refused(f"'{given[:40]}' is no whole number from 0 on", value(row, names)[0])
    return int(given)


def parse(content: bytes) -> Any:
    """The file's dataset. Raises Refused when the bytes are no DICOM, or hold no picture."""
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        dataset = pydicom.dcmread(io.BytesIO(content))
        for tag in (*IDENTIFYING, *USED):
            dataset.get(tag)  # pydicom reads a value when it is asked for, and raises only then
        pixels = "PixelData" in dataset and "Rows" in dataset and "Columns" in dataset
    except InvalidDicomError:
        raise Refused("not a DICOM file") from None
    except Exception as error:  # damaged files raise anything, from KeyError to struct.error
        raise Refused(f"a damaged DICOM file ({error})") from None
    if not pixels:
        raise Refused("a DICOM file without a picture")
    return dataset


def render(dataset: Any, frame: int | None = None, *, cleared: bool = False, max_pixels: int = 50_000_000) -> "Image":
    """One frame as an 8-bit picture, L or RGB. `frame`, from 0, has to be given when there are several.

    Raises Refused, with what to do, for a file that may name a patient, a missing decoder, or pixels without sense.
    """
    if not cleared:
        _protect(dataset)
    try:
        rows, columns, frames = (int(dataset.get(tag) or 1) for tag in ("Rows", "Columns", "NumberOfFrames"))
    except (TypeError, ValueError) as error:
        raise Refused(f"a damaged DICOM file ({error})") from None
    if rows * columns > max_pixels:
        raise Refused(f"the picture has {columns} x {rows} pixels; curate.max_pixels allows {max_pixels}")
    if frame is None and frames > 1:
        raise Refused(f"the file has {frames} frames; name one, from 0, in the column `frame`")
    if frame is not None and frame >= frames:
        raise Refused(f"frame {frame} is none of the {frames}, which are counted from 0")
    stored = _decoded(dataset, frame or 0)
    try:
        dataset = _of_frame(dataset, frame or 0)
        pixels = _colour(stored, dataset) if _is_colour(dataset) else _grey(stored, dataset)
    except (ValueError, TypeError, AttributeError, IndexError, NotImplementedError) as error:
        raise Refused(f"the pixels cannot be shown ({error})") from None
    if pixels.min() == pixels.max():
        raise Refused("nothing is to be seen: all pixels have one value")
    from PIL import Image

    return _square(Image.fromarray(pixels), dataset)


def _protect(dataset: Any) -> None:
    """Refuse what may name a patient. The message names the tag, never its value."""
    mend = "de-identify it, or say `cleared: true` when you have seen to it"
    named = [tag for tag in IDENTIFYING if str(dataset.get(tag) or "").strip()]
    if named and dataset.get("PatientIdentityRemoved") != "YES":
        raise Refused(f"the tag {named[0]} may name a patient: {mend}")
    burned = str(dataset.get("BurnedInAnnotation") or "")
    if burned == "YES":
        raise Refused(f"text is burned into the pixels (BurnedInAnnotation): {mend}")
    if burned != "NO" and dataset.get("Modality") in OFTEN_BURNED_IN:
        raise Refused(f"{dataset.Modality} often has text burned in, and BurnedInAnnotation does not say NO: {mend}")


def _decoded(dataset: Any, frame: int) -> "np.ndarray":
    """The stored values of one frame; YBR comes as RGB."""
    from pydicom.pixels import pixel_array

    try:
        return pixel_array(dataset, index=frame)
    except Exception as error:  # decoders raise what they like
        syntax = dataset.file_meta.get("TransferSyntaxUID")
        if syntax is not None and syntax.is_compressed:
            there = importlib.util.find_spec("gdcm") is not None
            mend = "decompress it first (gdcmconv --raw)" if there else "pip install 'grandrounds[dicom]'"
            raise Refused(f"no decoder that is installed reads its compression, {syntax.name}: {mend}") from None
        raise Refused(f"the pixels cannot be decoded ({str(error).splitlines()[0][:200]})") from None


def _of_frame(dataset: Any, frame: int) -> Any:
    """The dataset with what an enhanced object says of all frames, or of this one, as if it said it of the file."""
    flat = copy.copy(dataset)
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [])[:1]
    own = (dataset.get("PerFrameFunctionalGroupsSequence") or [])[frame : frame + 1]
    for group in (*shared, *own):
        for name in ("PixelValueTransformationSequence", "FrameVOILUTSequence", "PixelMeasuresSequence"):
            for macro in (group.get(name) or [])[:1]:
                flat.update(macro)
    return flat


def _is_colour(dataset: Any) -> bool:
    return not str(dataset.get("PhotometricInterpretation", "")).startswith("MONOCHROME")


def _colour(stored: "np.ndarray", dataset: Any) -> "np.ndarray":
    import numpy as np
    from pydicom.pixels import apply_color_lut

    bits = int(dataset.BitsStored)
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        stored = apply_color_lut(stored, dataset)
        bits = 8 * stored.dtype.itemsize
    return (stored >> max(bits - 8, 0)).astype(np.uint8)


def _grey(stored: "np.ndarray", dataset: Any) -> "np.ndarray":
    """Modality, VOI and presentation: [rows, columns] uint8, black to white."""
    import numpy as np
    from pydicom.pixels import apply_modality_lut, apply_voi_lut

    values = np.asarray(apply_modality_lut(stored, dataset), dtype=np.float64)
    if dataset.get("VOILUTSequence") or dataset.get("WindowWidth") not in (None, ""):
        # two values beyond every window tell what black and white are, whatever the picture holds
        ends = np.array([-(10**9), 10**9])
        through = np.asarray(apply_voi_lut(np.append(values.round().astype(np.int64), ends), dataset), dtype=np.float64)
        shown, low, high = through[:-2].reshape(values.shape), through[-2:].min(), through[-2:].max()
    else:
        padding = dataset.get("PixelPaddingValue")
        real = values[stored != padding] if padding is not None and (stored != padding).any() else values
        low, high = np.percentile(real, HALF_PERCENT)
        shown = values
    grey = np.clip((shown - low) / max(high - low, 1e-9), 0, 1)
    inverse = dataset.PhotometricInterpretation == "MONOCHROME1" or dataset.get("PresentationLUTShape") == "INVERSE"
    return np.asarray(255 * (1 - grey if inverse else grey)).round().astype(np.uint8)


def _square(picture: "Image", dataset: Any) -> "Image":
    """The picture with square pixels: rows stretched where spacing, or the aspect ratio, says so (vertical first)."""
    for tag in ("PixelSpacing", "PixelAspectRatio"):
        pair = dataset.get(tag)
        if pair and len(pair) == 2 and float(pair[1]) > 0 and 0.1 < (ratio := float(pair[0]) / float(pair[1])) < 10:
            if abs(ratio - 1) < 0.01:
                return picture
            return picture.resize((picture.width, max(1, round(picture.height * ratio))))
    return picture
