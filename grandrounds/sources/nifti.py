"""NIfTI volumes: one slice of a plane, as radiologists hang it.

The volume is turned to its canonical axes (right, anterior, superior) by its affine, whatever order its file has. The
patient's right is on the left of the picture, front (or head) up; a sagittal slice looks to the left. Slices are
counted from 0 from left, back and bottom. Grey goes from the darkest to the brightest half percent of the slice;
voxels become square. Volumes have to be files on disk, not in an archive.
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grandrounds.sources.dicom import HALF_PERCENT, whole
from grandrounds.sources.layout import Draft, Layout, plain, text, value
from grandrounds.sources.rows import Row
from grandrounds.sources.store import Refused, Store

if TYPE_CHECKING:
    from PIL.Image import Image

PLANES = {"sagittal": 0, "coronal": 1, "axial": 2}
VOXELS = 1 << 28  # of one volume, which is unpacked in memory


def read(row: Row, layout: Layout, store: Store) -> Draft:
    draft = plain(row, replace(layout, pictures="none"), store)
    name, given = value(row, layout.columns.image)
    if given in (None, ""):
        return draft
    plane = text(row, layout.columns.plane, required=True).lower()
    at = whole(row, layout.columns.slice)
    try:
        file = store.find(str(given))
        picture = render(store.path(file), plane, at)
    except Refused as refused:
        raise refused.at(name) from None
    return replace(draft, pictures=[picture], group=draft.group or file)  # slices of one volume stay together


def render(path: Path, plane: str, at: int | None) -> "Image":
    """A slice as an 8-bit grey picture. Raises Refused for what is no 3-D volume, or has no such slice."""
    import nibabel
    import numpy as np
    from nibabel.filebasedimages import ImageFileError
    from PIL import Image

    if plane not in PLANES:
        raise Refused(f"plane '{plane[:40]}' is none of {', '.join(PLANES)}", "plane")
    try:
        volume: Any = nibabel.load(path)
        shape = volume.shape
        if len(shape) != 3 or volume.get_data_dtype().kind not in "iuf":
            raise Refused(f"not a volume of three axes and one value a voxel: {shape}, {volume.get_data_dtype()}")
        if np.prod(shape, dtype=np.float64) > VOXELS:
            raise Refused(f"the volume has {' x '.join(map(str, shape))} voxels; {VOXELS} are allowed")
        volume = nibabel.as_closest_canonical(volume)
        axis = PLANES[plane]
        if at is None or at >= volume.shape[axis]:
            raise Refused(f"slice {at}: there are {volume.shape[axis]} {plane} ones, counted from 0", "slice")
        cut = np.asarray(volume.dataobj[(*[slice(None)] * axis, at)], dtype=np.float64)
        zooms = [float(size) for i, size in enumerate(volume.header.get_zooms()[:3]) if i != axis]
    except (ImageFileError, OSError, EOFError, ValueError) as error:
        raise Refused(f"not a NIfTI volume that can be read ({' '.join(str(error).split())[:200]})") from None
    low, high = np.percentile(np.nan_to_num(cut), HALF_PERCENT)
    grey = np.clip((np.nan_to_num(cut) - low) / max(high - low, 1e-9), 0, 1)
    picture = Image.fromarray((255 * grey).round().astype(np.uint8).T[::-1, ::-1].copy())
    ratio = zooms[1] / zooms[0] if min(zooms) > 0 else 1.0
    return picture.resize((picture.width, max(1, round(picture.height * ratio)))) if abs(ratio - 1) > 0.01 else picture
