"""Near-duplicates at scale: 10 k, 100 k and 1 M questions, and 20 k pictures, with known ones planted among them.

    python benchmarks/curate_scale.py [--quick]

Every twentieth question is another's near-duplicate (other punctuation, case and order of options, a misspelt word),
and every twentieth a decoy that must not be taken for one (a number, a side or a negation changed). Beside it, at
100 k, the same job with datasketch's MinHash and MinHashLSH as its documentation shows them: a row, an object, a query
at a time, the same normal form, bands and exact check. Each size runs in a process of its own on one core. The whole
run times 10 k and 100 k three times and states medians; `--quick` times all once.
"""

import argparse
import io
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from grandrounds.domain import shingles, wording  # noqa: E402
from grandrounds.domain.duplicates import THRESHOLD, text_pairs  # noqa: E402
from grandrounds.domain.pictures import image_hash, image_pairs  # noqa: E402

SIZES = {"10k": 10_000, "100k": 100_000, "1m": 1_000_000}
PICTURES = 20_000
PLANTED_EVERY = 20
COPY, DECOY = 19, 9  # which row of twenty is a copy of the first, and which a decoy of the second

STEMS = """kerat dermat oste nephr cardi hepat gastr enter neur my arthr angi aden bronch cyst cyt encephal hemat lymph
mening thromb phleb pneum proct rhin splen thyr ureter vascul chondr fibr lip melan sarc chol"""
ENDINGS = "itis osis oma opathy ectomy ogram oplasty algia emia omegaly otomy olysis ocele oid ogenic orrhea"
TERMS = [stem + ending for stem in STEMS.split() for ending in ENDINGS.split()]
FIRST = "ator met lisin amlo keto dexa fluo cefa pan rami"
LAST = "statin olol opril dipine conazole methasone xetine zolin prazole"
DRUGS = [first + last for first in FIRST.split() for last in LAST.split()]
WHO = ("man", "woman", "boy", "girl", "infant", "newborn", "child", "adolescent")
COMES = ("presents to the clinic with", "is brought to the emergency department with", "is seen because of")
ASKS = (
    "Which of the following is the most likely diagnosis?",
    "Which of the following is the best next step in management?",
    "Which finding is NOT expected?",
    "What is the drug of choice?",
)


def question(number: int) -> tuple[str, list[str]]:
    """A question and its options: one in three a vignette, the others a line or two, as in MedQA and MedMCQA."""
    rng = random.Random(number)
    options = [f"{rng.choice(DRUGS)} {rng.randint(1, 80) * 5} mg, then {rng.choice(TERMS)}" for _ in range(4)]
    if number % 3:
        seen = " and ".join(rng.sample(TERMS, 4))
        return f"In {seen} of the {rng.choice(('left', 'right'))} side, {rng.choice(ASKS)}", options
    seen, found, past = (", ".join(rng.sample(TERMS, count)) for count in (4, 3, 3))
    return (
        f"A {rng.randint(1, 90)}-year-old {rng.choice(WHO)} {rng.choice(COMES)} {seen} for {rng.randint(2, 30)} days. "
        f"Heart rate is {rng.randint(50, 160)} per minute, "
        f"blood pressure {rng.randint(80, 200)}/{rng.randint(40, 110)} mmHg. There is no {found} on the "
        f"{rng.choice(('left', 'right'))}. There is a history of {past}. {rng.choice(ASKS)}"
    ), options


def rows(count: int) -> list[tuple[str, str]]:
    """`count` rows (id, whole text): ids "12", "0 copy", "1 decoy"."""
    found = []
    for number in range(count):
        place = number % PLANTED_EVERY
        base = number - place + (1 if place == DECOY else 0 if place == COPY else place)
        stem, options = question(base)
        name, rng = str(base), random.Random(-number)
        if place == COPY:
            name, stem, options = f"{base} copy", reworded(stem, rng), rng.sample(options, len(options))
        elif place == DECOY:
            name, stem = f"{base} decoy", decoy(stem, rng)
        found.append((name, "\n".join([stem, *options])))
    return found


def reworded(stem: str, rng: random.Random) -> str:
    words = stem.replace(",", ";").replace(". ", " - ").split(" ")
    place = rng.choice([at for at, word in enumerate(words) if len(word) > 7 and word.isalpha()])
    words[place] = words[place][:4] + words[place][5:]
    return " ".join(words).upper() if rng.random() < 0.3 else " ".join(words)


def decoy(stem: str, rng: random.Random) -> str:
    side = ("left", "right") if "left" in stem else ("right", "left")
    return rng.choice([stem.replace(*side), f"Except in one case: {stem}", f"{stem} (case {rng.randint(2, 99)})"])


def text(count: int) -> dict[str, float]:
    """Our seconds, peak MiB, and what was found, on `count` rows."""
    given = rows(count)
    started = time.perf_counter()
    pairs = text_pairs(given)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "peak_mib": peak()} | quality(((p.first, p.second) for p in pairs), count)


def datasketch(count: int) -> dict[str, float]:
    """The same job a row at a time. The guard and the exact check are ours: they are not what is compared."""
    from datasketch import MinHash, MinHashLSH

    given = rows(count)
    started = time.perf_counter()
    bands = shingles.bands(THRESHOLD)
    permutations = bands * shingles.ROWS
    index = MinHashLSH(num_perm=permutations, params=(bands, shingles.ROWS))
    read: dict[str, tuple[bytes, wording.Facts]] = {}
    pairs = []
    for name, whole in given:
        form, facts = wording.read(whole)
        raw = form.encode()
        ours = cut(raw)
        sketch = MinHash(num_perm=permutations)
        sketch.update_batch(ours)
        for other in index.query(sketch):
            if read[other][1] == facts:
                theirs = cut(read[other][0])
                if len(ours & theirs) >= THRESHOLD * len(ours | theirs):
                    pairs.append((other, name))
        index.insert(name, sketch)
        read[name] = raw, facts
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "peak_mib": peak()} | quality(pairs, count)


def cut(raw: bytes) -> set[bytes]:
    return {raw[at : at + shingles.SHINGLE] for at in range(len(raw) - shingles.SHINGLE + 1)}


def quality(pairs: Iterable[tuple[str, str]], count: int) -> dict[str, float]:
    """Recall over the planted pairs, and the share of the found ones that were not planted."""
    found = {frozenset(pair) for pair in pairs}
    planted = {frozenset((str(at - COPY), f"{at - COPY} copy")) for at in range(COPY, count, PLANTED_EVERY)}
    return {"recall": len(found & planted) / len(planted), "false_rate": len(found - planted) / max(1, len(found))}


def pictures(count: int) -> dict[str, float]:
    """Hashing and searching `count` generated pictures, one in twenty another's changed copy."""
    started = time.perf_counter()
    hashes = []
    for number in range(count):
        copy = number % PLANTED_EVERY == COPY
        base = number - COPY if copy else number
        image = changed(picture(base), number) if copy else picture(base)
        hashes.append((f"{base} copy" if copy else str(base), image_hash(image)))
    made = time.perf_counter()
    pairs = image_pairs(hashes)
    seconds = time.perf_counter() - made
    quality_ = quality(((pair.first, pair.second) for pair in pairs), count)
    return {"seconds": seconds, "hash_seconds": made - started, "peak_mib": peak()} | quality_


def picture(number: int):
    """A random field whose amplitudes fall with frequency, as those of natural pictures do (Field 1987)."""
    import numpy as np
    from PIL import Image

    side = 96
    rng = np.random.default_rng(number)
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    spectrum = np.fft.rfft2(rng.standard_normal((side, side))) / np.maximum(frequency, 1 / side) ** 1.5
    field = np.fft.irfft2(spectrum, s=(side, side))
    return Image.fromarray((40 + 160 * (field - field.min()) / np.ptp(field)).astype(np.uint8))


def changed(image, number: int):
    from PIL import Image, ImageEnhance, ImageOps

    def jpeg(image, quality: int):
        out = io.BytesIO()
        image.save(out, "JPEG", quality=quality)
        return Image.open(io.BytesIO(out.getvalue()))

    ways: list[Callable] = [
        lambda image: jpeg(image, 30),
        ImageOps.mirror,
        lambda image: image.resize((61, 75)),
        lambda image: image.crop((3, 2, 94, 95)),
        lambda image: ImageEnhance.Contrast(image).enhance(0.7),
        lambda image: jpeg(image.crop((0, 3, 96, 96)), 60),
    ]
    return ways[number // PLANTED_EVERY % len(ways)](image)


def peak() -> float:
    """The most memory that this process has had, MiB."""
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10  # bytes there, KiB here
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


JOBS = {"text": text, "datasketch": datasketch, "pictures": pictures}


def alone(job: str, count: int) -> dict[str, float]:
    """A job in a process of its own."""
    command = [sys.executable, str(Path(__file__).resolve()), "--job", job, str(count)]
    run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found = json.loads(run.stdout.splitlines()[-1])
    figures = ", ".join(f"{name} {value:.4g}" for name, value in found.items())
    print(f"{job:10} {count:>9,}: {figures}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="every size once, within four minutes")
    parser.add_argument("--job", nargs=2, metavar=("NAME", "COUNT"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.job:
        print(json.dumps(JOBS[given.job[0]](int(given.job[1]))))
        return

    repeats = {"10k": 1, "100k": 1, "1m": 1} if given.quick else {"10k": 3, "100k": 3, "1m": 1}
    ours = {name: [alone("text", count) for _ in range(repeats[name])] for name, count in SIZES.items()}
    seconds = {name: statistics.median(run["seconds"] for run in runs) for name, runs in ours.items()}
    theirs = alone("datasketch", SIZES["100k"])
    seen = alone("pictures", PICTURES)
    runs = [run for each in ours.values() for run in each]
    figures = {
        **{f"seconds_{name}": round(value, 2) for name, value in seconds.items()},
        "growth_100k_to_1m": round(seconds["1m"] / seconds["100k"], 2),
        "peak_mib_1m": round(max(run["peak_mib"] for run in ours["1m"])),
        "recall": min(run["recall"] for run in runs),
        "false_rate": max(run["false_rate"] for run in runs),
        "ratio_datasketch": round(theirs["seconds"] / seconds["100k"], 2),
        "seconds_datasketch_100k": round(theirs["seconds"], 2),
        "peak_mib_datasketch_100k": round(theirs["peak_mib"]),
        "peak_mib_100k": round(max(run["peak_mib"] for run in ours["100k"])),
        "seconds_images_20k": round(seen["seconds"], 2),
        "hash_seconds_images_20k": round(seen["hash_seconds"], 2),
        "recall_images": seen["recall"],
        "false_rate_images": seen["false_rate"],
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
