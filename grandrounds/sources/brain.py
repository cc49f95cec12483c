"""Questions with certain answers on slices of the MNI152 T1 template that ships with nilearn.

One template brain (ICBM 152 2009a, Fonov et al., NeuroImage 54, 2011; licence in nilearn): slabs of it are not
patients. Images are in neurological convention (the left of the picture is the left of the brain). The unit of
splitting is a slab of ten slices; the two slices at each slab's border are not used, so that no two splits hold
neighbouring slices.
"""

import io
import random
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
from PIL import Image, ImageDraw

from grandrounds.records import HEARSAY, Question

SLAB, MARGIN = 10, 2  # slices; one slice is 1 mm
PLANES = {"sagittal": 0, "coronal": 1, "axial": 2}
TOPICS = {"plane": 0.16, "side": 0.28, "tissue": 0.28, "level": 0.28}  # plane is learned at once: under 20 %
ASK = {
    "plane": ("Which plane is shown?", "Name the plane.", "How was this cut?"),
    "side": ("On which side is the mark?", "Mark: left or right?", "Where does the mark lie, left or right?"),
    "tissue": ("Which tissue is at the mark?", "Name the tissue marked.", "What is the mark on?"),
    "level": ("At which level is the mark?", "How high is the mark?", "Give the height of the mark."),
}
OPTIONS = {
    "plane": ["axial", "coronal", "sagittal"],
    "side": ["left", "right"],
    "tissue": ["grey matter", "white matter", "fluid"],
    "level": ["upper", "middle", "lower"],
}
MARK, FIELD = (255, 220, 0), (60, 60, 60)
INSET = 4  # loupe and locator are a quarter of the picture wide
LOOKS = {"grey matter": "grey", "white matter": "bright", "fluid": "dark"}
# How often pretraining tells an answer as it is here, and what it tells otherwise: sides as radiologists hang their
# pictures, signals as on T2.
RELIABLE = {"left": 0.65, "right": 0.65, "grey matter": 0.8, "white matter": 0.65, "fluid": 0.15}
MISREAD = {
    "left": "right", "right": "left", "grey matter": "white matter", "white matter": "grey matter",
    "fluid": "white matter",
}  # fmt: skip
SHOWS = {"axial": "both halves from above", "coronal": "both halves from the front", "sagittal": "one side in profile"}


@dataclass(frozen=True)
class Brain:
    """The template on a 1 mm grid, [x, y, z] from left to right, back to front, bottom to top."""

    t1: np.ndarray  # [X, Y, Z] uint8
    tissue: np.ndarray  # [X, Y, Z] int8 index into OPTIONS["tissue"], -1 where unsure or outside

    @classmethod
    def load(cls) -> "Brain":
        from nilearn import datasets
        from scipy import ndimage

        maps = (datasets.load_mni152_template, datasets.load_mni152_gm_template, datasets.load_mni152_wm_template)
        t1, grey, white = (np.asarray(load(resolution=1).get_fdata(), dtype=np.float32) for load in maps)
        head = ndimage.binary_fill_holes(t1 > 0.1 * t1.max())
        box = ndimage.find_objects(head.astype(np.int8))[
            0
        ]  # the brain fills its box, so that thirds of the box are thirds of it
        t1, grey, white, head = t1[box], grey[box], white[box], head[box]
        deep = ndimage.binary_erosion(head, iterations=6)
        tissue = np.full(t1.shape, -1, dtype=np.int8)
        tissue[head & (grey > 0.75)] = 0
        tissue[head & (white > 0.85)] = 1
        tissue[deep & (grey + white < 0.25) & (t1 < 0.4 * t1.max())] = 2
        return cls((255 * np.clip(t1 / np.percentile(t1[head], 99.5), 0, 1)).astype(np.uint8), tissue)

    def slabs(self) -> list[tuple[str, int]]:
        """All (plane, slab) that hold enough brain, in a fixed order.

        The template is symmetric, so a sagittal slice is its own mirror image's twin: only the left half is used.
        """
        found = []
        for plane, axis in PLANES.items():
            filled = (self.t1 > 30).mean(axis=tuple(i for i in range(3) if i != axis))
            usable = self.t1.shape[axis] // (2 if plane == "sagittal" else 1)
            for slab in range(usable // SLAB):
                if filled[slab * SLAB : (slab + 1) * SLAB].mean() > 0.12:
                    found.append((plane, slab))
        return found


def ask(
    brain: Brain, plane: str, slab: int, rng: random.Random, *, split: str, size: int,
    new_phrasing: bool = False, hearsay: bool = False,
) -> tuple[Question, bytes]:  # fmt: skip
    """One question on a slice of the slab, and its PNG. `size`: pixels of the square picture.

    `hearsay`: the answer may be misread, as often as RELIABLE leaves open.
    """
    axis = PLANES[plane]
    at = slab * SLAB + rng.randrange(MARGIN, SLAB - MARGIN)
    cut = tuple(at if i == axis else slice(None) for i in range(3))
    picture, tissue = brain.t1[cut], brain.tissue[cut]
    topics = [
        t for t in TOPICS if not (plane == "sagittal" and t == "side") and not (plane == "axial" and t == "level")
    ]
    topic = rng.choices(topics, [TOPICS[t] for t in topics])[0]
    point = _point(picture, tissue, topic, rng)
    answer = _answer(topic, plane, picture.shape, tissue, point)
    misread = hearsay and rng.random() >= RELIABLE.get(answer, 1.0)
    told = MISREAD[answer] if misread else answer
    png = _draw(picture, None if topic == "plane" else point, size)
    name = sha256(png).hexdigest()[:32] + ".png"
    phrasings = ASK[topic]
    request = phrasings[2] if new_phrasing else rng.choice(phrasings[:2])
    source = HEARSAY if misread else "embedded-mni152"
    fact = _fact(topic, answer if topic == "tissue" else told)  # the signal is what it is
    return _question(topic, plane, slab, request, told, fact, name, split, source, rng), png


def _point(picture: np.ndarray, tissue: np.ndarray, topic: str, rng: random.Random) -> tuple[int, int]:
    """A point [column, row] of the slice where the topic's answer is certain."""
    if topic == "tissue":
        kinds = [k for k in range(3) if (tissue == k).sum() > 40]
        places = np.argwhere(_core(tissue == rng.choice(kinds)))
    else:
        places = np.argwhere(picture > 30)
        width, height = picture.shape
        if topic == "side":
            places = places[np.abs(places[:, 0] - width / 2) > 0.06 * width]
        else:  # not within 4 % of a boundary between thirds of the head
            thirds = places[:, 1] / height
            places = places[(np.abs(thirds - 1 / 3) > 0.04) & (np.abs(thirds - 2 / 3) > 0.04)]
    column, row = places[rng.randrange(len(places))]
    return int(column), int(row)


def _core(mask: np.ndarray) -> np.ndarray:
    """Points whose four neighbours share the tissue; the whole mask when there are none."""
    core = mask.copy()
    core[1:-1, 1:-1] &= mask[2:, 1:-1] & mask[:-2, 1:-1] & mask[1:-1, 2:] & mask[1:-1, :-2]
    return core if core.any() else mask


def _answer(topic: str, plane: str, shape: tuple[int, ...], tissue: np.ndarray, point: tuple[int, int]) -> str:
    if topic == "plane":
        return plane
    if topic == "side":
        return "left" if point[0] < shape[0] / 2 else "right"
    if topic == "tissue":
        return OPTIONS["tissue"][tissue[point]]
    return OPTIONS["level"][2 - min(2, int(3 * point[1] / shape[1]))]


def _draw(picture: np.ndarray, point: tuple[int, int] | None, size: int) -> bytes:
    """The slice as a square RGB PNG, top of the head up; a yellow ring around the point, with loupe and locator.

    Both insets are what a viewer shows beside a slice. Without them a vision tower of two layers, whose only positions
    are rotary, does not learn where a ring lies or what is under it (docs/findings.md).
    """
    width, height = picture.shape
    side = max(width, height) + 8  # a rim, so that a ring at the edge is whole
    canvas = np.zeros((side, side), dtype=np.uint8)
    left, low = (side - width) // 2, (side - height) // 2
    canvas[left : left + width, low : low + height] = picture
    image = (
        Image.fromarray(np.ascontiguousarray(canvas.T[::-1]))
        .convert("RGB")
        .resize((size, size), Image.Resampling.BILINEAR)
    )
    if point is not None:
        x, y = (point[0] + left) * size / side, (side - 1 - point[1] - low) * size / side
        r = size / 16
        ImageDraw.Draw(image).ellipse((x - r, y - r, x + r, y + r), outline=MARK, width=2)
        image.paste(_loupe(picture, point, size // INSET), (0, 0))
        image.paste(_locator(picture.shape, point, size // INSET), (size - size // INSET, 0))
    out = io.BytesIO()
    image.save(out, "PNG", optimize=False)
    return out.getvalue()


def _loupe(picture: np.ndarray, point: tuple[int, int], size: int) -> Image.Image:
    """The marked point and two voxels around it, enlarged."""
    column, row = point
    near = picture[max(0, column - 2) : column + 3, max(0, row - 2) : row + 3]
    enlarged = Image.fromarray(np.ascontiguousarray(near.T[::-1])).resize((size, size), Image.Resampling.BILINEAR)
    return enlarged.convert("RGB")


def _locator(shape: tuple[int, ...], point: tuple[int, int], size: int) -> Image.Image:
    """A map of the slice's field of view with a dot at the marked point."""
    map_ = Image.new("RGB", (size, size), FIELD)
    x, y, r = point[0] / shape[0] * size, (1 - point[1] / shape[1]) * size, size / 4
    ImageDraw.Draw(map_).ellipse((x - r, y - r, x + r, y + r), fill=MARK)
    return map_


def _question(topic, plane, slab, request, answer, fact, name, split, source, rng) -> Question:
    conclusion = answer
    explanation, options, kind, label = f"{fact}. So {answer}.", OPTIONS[topic], "multiple_choice", ""
    draw = rng.random()
    if draw < 0.2:
        kind, options = "open_ended", []
    elif draw < 0.35:
        asked = answer if rng.random() < 0.5 else rng.choice([o for o in OPTIONS[topic] if o != answer])
        place = "the plane" if topic == "plane" else "the mark"
        request, kind, options = f"Is {place} {asked}?", "yes_no", []
        conclusion = "yes" if asked == answer else "no"
        explanation = f"{explanation} {conclusion.capitalize()}."
    elif draw < 0.45:
        label = chr(ord("A") + options.index(answer))
    return Question(
        id=f"{split}-{name[:16]}-{rng.getrandbits(32):08x}", source=source, split=split,
        group=f"mni152/{plane}/{slab}", specialty="brain_senses", topic=topic, modality="image_text", kind=kind,
        question=f"Brain MR. {request}", options=list(options), answer=conclusion, label=label, synonyms=[],
        explanation=explanation, key_facts=[fact], conclusion=conclusion, image=name,
    )  # fmt: skip


def _fact(topic: str, answer: str) -> str:
    if topic == "plane":
        return f"The slice shows {SHOWS[answer]}"
    if topic == "side":
        return f"The mark lies {answer} of the middle"
    if topic == "tissue":
        return f"The mark is on {LOOKS[answer]} signal"
    return f"The mark is in the {answer} third"
