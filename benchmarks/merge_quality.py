"""Validation accuracy of merged specialists by method, with paired 95 % intervals against TIES. Needs a made pipeline.

    python benchmarks/merge_quality.py [--quick] [--seeds 3]

Merges the specialists of merge.items.experts in params.yaml by every method (DARE under three seeds of its drops),
answers the validation split with `predict`'s engine and settings, and prints the accuracy of each specialty, their
mean (macro), and its difference to TIES: bootstrap over groups of questions, figures being means over training seeds.
The first seed's specialists are those of models/adapters; those of further seeds are trained by `adapt` itself, in a
folder of .cache/benchmarks where they stay (a minute a seed on two idle cores).
The last line is JSON: {<method>: {macro, low, high, difference, difference_low, difference_high, <specialty>: ...}}.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml
from pydantic import TypeAdapter

from grandrounds import files, lora, params, runtime
from grandrounds.domain.adapters import LoraUpdate
from grandrounds.domain.merging.merge import merge
from grandrounds.domain.statistics import Resampler
from grandrounds.params import MergeMethod
from grandrounds.records import Question

RESAMPLES, RANK = 5000, 128
METHODS: tuple[dict[str, Any], ...] = (
    {"type": "ties"},
    {"type": "conflict_aware"},
    {"type": "ties", "density": 1.0},
    {"type": "conflict_aware", "density": 1.0},
    {"type": "conflict_aware", "caution": 3.0},
    {"type": "conflict_aware", "agreement": 0.5},
    {"type": "linear", "scale": 0.5},
    {"type": "knots"},
    {"type": "ram"},
    *({"type": "dare_ties", "seed": seed} for seed in range(3)),
    *({"type": "dare_linear", "seed": seed, "scale": 0.5} for seed in range(3)),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="TIES and conflict-aware only")
    parser.add_argument("--seeds", type=int, default=1, help="of specialists; the first are those of models/adapters")
    given = parser.parse_args()
    settings = params.load()
    runtime.prepare(settings)
    questions = files.read("data/curated/val.parquet", Question)
    folders = [Path("models/adapters"), *(_trained(offset) for offset in range(2, given.seeds + 1))]
    scores: dict[str, list[list[float]]] = {}
    for folder in folders:
        item = settings.merge.items["experts"]
        updates = {name: lora.load_update(folder / path.name) for name, path in item.updates.items()}
        for name in updates:
            _note(scores, f"specialist {name}", _right(questions, settings, updates[name]))
        for method in METHODS[: 2 if given.quick else None]:
            merged = merge(updates, item.weights, TypeAdapter(MergeMethod).validate_python(method), RANK).update
            _note(scores, _name(method), _right(questions, settings, merged))
            print(_name(method), f"{fmean(scores[_name(method)][-1]):.3f}", flush=True)
    print(json.dumps(_figures(questions, {name: _means(rows) for name, rows in scores.items()})))


def _trained(offset: int) -> Path:
    """Specialists under another seed, by tasks/adapt.py in a folder with links to this pipeline's data and base."""
    folder, here = Path(f".cache/benchmarks/specialists-{offset}"), Path.cwd()
    (folder / "models").mkdir(parents=True, exist_ok=True)
    for name in ("data", "models/base"):
        if not (folder / name).exists():
            (folder / name).symlink_to(here / name)
    raw = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    names = [Path(path).name for path in raw["merge"]["items"]["experts"]["updates"].values()]
    for name in names:
        raw["adapt"]["items"][name]["seed_offset"] = offset
    (folder / "params.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(here), "MLFLOW_TRACKING_URI": f"sqlite:///{here / folder}/mlflow.db"}
    for name in names:
        if not (folder / "models/adapters" / name).is_dir():
            subprocess.run([sys.executable, "-m", "tasks.adapt", name], cwd=folder, env=environment, check=True)
    return folder / "models/adapters"


def _name(method: Mapping[str, Any]) -> str:
    return " ".join(
        [method["type"], *(f"{key} {value}" for key, value in method.items() if key not in ("type", "seed"))]
    )


def _note(scores: dict[str, list[list[float]]], name: str, found: list[float]) -> None:
    scores.setdefault(name, []).append(found)


def _means(rows: list[list[float]]) -> list[float]:
    """Over seeds, question by question."""
    return [fmean(column) for column in zip(*rows, strict=True)]


def _right(questions: Sequence[Question], settings: params.Params, update: LoraUpdate) -> list[float]:
    from grandrounds.engines.validation import right

    with tempfile.TemporaryDirectory() as folder:
        lora.save_update(Path(folder) / "merged", update)
        return [float(each) for each in right(questions, settings, Path(folder) / "merged")]


def _figures(questions: Sequence[Question], scores: Mapping[str, list[float]]) -> dict[str, dict[str, float]]:
    groups = Resampler([each.group for each in questions], RESAMPLES, 7)
    places: dict[str, list[int]] = {}
    for place, question in enumerate(questions):
        places.setdefault(question.specialty, []).append(place)
    # the mean of these values is the mean over specialties of their accuracies
    share = [len(questions) / (len(places) * len(places[each.specialty])) for each in questions]
    weighed = {name: [s * v for s, v in zip(share, values, strict=True)] for name, values in scores.items()}
    found = {}
    for name, values in weighed.items():
        macro, against = groups.mean(values), groups.difference(values, weighed["ties"])
        found[name] = {
            "macro": macro.value, "low": macro.low, "high": macro.high,
            "difference": against.value, "difference_low": against.low, "difference_high": against.high,
            **{specialty: fmean(scores[name][place] for place in rows) for specialty, rows in sorted(places.items())},
        }  # fmt: skip
        found[name] = {key: round(value, 4) for key, value in found[name].items()}
    return found


if __name__ == "__main__":
    main()
