"""Everything that a run left on disk, read once. A part that is not there is empty; a damaged file is an error."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grandrounds import files
from grandrounds.params import ITEMS, STAGES, Params
from grandrounds.records import Conflict, Difficulty, Prediction, Question, Verdict
from grandrounds.reporting.numbers import number
from grandrounds.reporting.ratings import Ratings
from grandrounds.reporting.ratings import read as read_ratings

EVALUATED = ("val", "test", "unseen")
CONDITIONS = ("_no_reasoning", "_text_only", "_sampled")  # ends of keys that are no splits of their own
Curves = dict[str, list[float | None]]


@dataclass(frozen=True)
class Run:
    """What the stages wrote. Keys of `metrics`, `records` and `curves` are `stage` or `stage/item`."""

    root: Path
    params: Params
    metrics: dict[str, dict[str, Any]] = field(default_factory=dict)
    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    curves: dict[str, Curves] = field(default_factory=dict)
    questions: dict[str, dict[str, Question]] = field(default_factory=dict)  # split -> id -> question
    predictions: dict[str, list[Prediction]] = field(default_factory=dict)  # arm -> rows
    verdicts: list[Verdict] = field(default_factory=list)
    difficulties: dict[str, list[Difficulty]] = field(default_factory=dict)  # modality -> rows
    conflicts: dict[str, list[Conflict]] = field(default_factory=dict)  # merge -> rows
    audit: dict[str, Any] = field(default_factory=dict)  # of curate
    ratings: Ratings = field(default_factory=Ratings)  # of people
    lineage: dict[str, Any] | None = None

    @property
    def arms(self) -> list[str]:
        """Arms of params.yaml that the judge scored, in the order of params.yaml."""
        scored = self.metrics.get("judge", {})
        return [arm for arm in self.params.predict.arms if isinstance(scored.get(arm), dict)]

    def scores(self, arm: str, split: str) -> Mapping[str, Any]:
        """The judge's figures of one arm on one split; empty when there are none."""
        found = self.metrics.get("judge", {}).get(arm) or {}
        return found.get(split) or {}

    def may_show(self, source: str) -> bool:
        """Whether questions of a source may stand in what is handed on: its licence allows it, or it is made here."""
        known = (self.metrics.get("curate", {}).get("sources") or {}).get(source) or {}
        return bool(known.get("redistribute", True))

    def title(self, arm: str) -> str:
        return self.params.predict.arms[arm].title if arm in self.params.predict.arms else arm

    def best(self, arms: list[str] | None = None) -> str | None:
        """The arm with the highest strict accuracy on the selection split; the first of params.yaml among equals."""
        split = self.params.publish.select_split
        known = [
            (arm, number(self.scores(arm, split).get("accuracy"))) for arm in (self.arms if arms is None else arms)
        ]
        ranked = [(arm, accuracy) for arm, accuracy in known if accuracy is not None]
        return max(ranked, key=lambda pair: pair[1])[0] if ranked else None

    @property
    def splits(self) -> list[str]:
        """val, test, unseen, then every further split (a benchmark) that some arm has; no other prompts."""
        found = [split for arm in self.arms for split in self.metrics["judge"][arm]]
        named = [split for split in EVALUATED if split in found]
        others = {split for split in found if split not in EVALUATED and not split.endswith(CONDITIONS)} - {"macro"}
        return named + sorted(others)


def collect(root: Path, params: Params, lineage: dict[str, Any] | None = None) -> Run:
    """Read reports/ and data/ of the project folder `root`.

    Raises UserError for a file that is there and cannot be read, naming it.
    """
    metrics: dict[str, dict[str, Any]] = {}
    records: dict[str, dict[str, Any]] = {}
    curves: dict[str, Curves] = {}
    for key in keys(params):
        folder = root / "reports" / key
        for name, into in (("metrics.json", metrics), ("run.json", records)):
            if (folder / name).is_file():
                value = files.read_json(folder / name)
                into[key] = known_parts(value) if isinstance(value, dict) else {}
        if (folder / "curves.csv").is_file():
            curves[key] = read_curves(folder / "curves.csv")
    data = root / "data"
    predictions: dict[str, list[Prediction]] = _named(data / "predictions", params.predict.arms, Prediction)
    return Run(
        root=root,
        params=params,
        metrics=metrics,
        records=records,
        curves=curves,
        questions=_questions(data / "curated"),
        predictions=predictions,
        verdicts=_rows(data / "verdicts.parquet", Verdict),
        difficulties=_named(data / "filtered", params.filter.items, Difficulty),
        conflicts=_named(data / "conflicts", params.merge.items, Conflict),
        audit=_json(data / "curated/audit.json"),
        ratings=read_ratings(root, (row for rows in predictions.values() for row in rows)),
        lineage=lineage,
    )


def known_parts(value: dict[str, Any]) -> dict[str, Any]:
    """The same without a null where other entries are objects: one not computed is one not there.

    A null among plain numbers stays: it is printed as a dash; a key that is not there may mean a count of none.
    """
    mixed = any(isinstance(each, dict) for each in value.values())
    kept = {key: each for key, each in value.items() if each is not None or not mixed}
    return {key: known_parts(each) if isinstance(each, dict) else each for key, each in kept.items()}


def keys(params: Params) -> list[str]:
    """`stage` or `stage/item` for all that params.yaml names, in pipeline order."""
    found = []
    for stage in STAGES:
        items = getattr(getattr(params, stage), ITEMS[stage]) if stage in ITEMS else None
        found += [stage] if items is None else [f"{stage}/{item}" for item in items]
    return found


def read_curves(path: Path) -> Curves:
    """A curves.csv as columns; an empty or non-numeric cell is None."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    columns = [name for name in (rows[0] if rows else {}) if name]
    return {name: [_float(row.get(name)) for row in rows] for name in columns}


def _float(text: str | None) -> float | None:
    try:
        return number(float(text)) if text else None
    except ValueError:
        return None


def _questions(folder: Path) -> dict[str, dict[str, Question]]:
    """Every set that arms answer: val, test, unseen, and benchmarks, each by its name."""
    paths = [folder / f"{split}.parquet" for split in EVALUATED] + sorted((folder / "benchmarks").glob("*.parquet"))
    return {path.stem: {row.id: row for row in _rows(path, Question)} for path in paths}


def _json(path: Path) -> dict[str, Any]:
    value = files.read_json(path) if path.is_file() else {}
    return value if isinstance(value, dict) else {}


def _rows(path: Path, record: type) -> list[Any]:
    return files.read(path, record) if path.is_file() else []


def _named(folder: Path, names: Any, record: type) -> dict[str, list[Any]]:
    return {name: _rows(folder / f"{name}.parquet", record) for name in names if (folder / f"{name}.parquet").is_file()}
