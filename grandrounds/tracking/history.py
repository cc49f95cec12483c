"""What was made from what: the records of stages, read from run.json files and dvc.lock, or from MLflow."""

import json
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from grandrounds import files
from grandrounds.tracking import lock as dvc
from grandrounds.tracking.stage import flat, run_name
from grandrounds.tracking.store import RUN_TAG, SOURCES, SOURCES_TAG

OUTPUT, CODE = "output:", "code:"  # tags of a run: `output:models/base` = md5 of what it wrote


@dataclass(frozen=True)
class Made:
    """One run of one stage: what it read and wrote, by path and DVC's md5."""

    name: str  # adapt@pediatrics
    run_id: str
    commit: str
    dirty: bool
    started: float  # seconds since 1970
    params: dict[str, str]
    inputs: dict[str, str]  # path -> md5
    outputs: dict[str, str] = field(default_factory=dict)
    code: dict[str, str] = field(default_factory=dict)  # deps that no stage writes: task, library and source files
    sources: dict[str, str] = field(default_factory=dict)  # single files of the source folders among them
    whole: bool = True  # False: it was killed, and of its code and outputs nothing is recorded


@dataclass(frozen=True)
class Record:
    """One run.json, and the stage of dvc.lock whose output it is (None when the file is not of that run)."""

    path: Path
    body: dict[str, Any]
    locked: dvc.Stage | None

    @property
    def name(self) -> str:
        return run_name(self.body["stage"], self.body["item"])

    @property
    def key(self) -> str:
        """The run's id in run.json. A run that MLflow never had is known by stage and time instead."""
        return self.body["mlflow_run_id"] or f"{self.name} {self.body['started']}"


def records(root: str | Path = ".") -> list[Record]:
    """Every reports/**/run.json of the project, each beside its entry in dvc.lock."""
    root = Path(root)
    known = dvc.read(root)
    found = []
    for path in sorted((root / "reports").rglob("run.json")):
        body = files.read_json(path)
        stage = known.stages.get(run_name(body["stage"], body["item"]))
        entry = stage.outs.get(path.relative_to(root).as_posix()) if stage else None
        # a stage that was run by hand has another run.json than the lock: its outputs' md5 would be a guess
        true = entry is not None and dvc.digest(path.relative_to(root), root).md5 == entry.md5
        found.append(Record(path, body, stage if true else None))
    return found


def written(record: Record) -> dict[str, str]:
    """Path -> md5 of the stage's data outputs; reports are not what another stage is made from."""
    if record.locked is None:
        return {}
    kept = {path: entry.md5 for path, entry in record.locked.outs.items()}
    return {path: md5 for path, md5 in kept.items() if not path.startswith("reports/") or path.endswith("metrics.json")}


def code(record: Record, known: dvc.Lock) -> dict[str, str]:
    """Path -> md5 of the deps that no stage writes."""
    deps = record.locked.deps.values() if record.locked else ()
    return {dep.path: dep.md5 for dep in deps if known.producer(dep.path) is None and not known.parts(dep.path)}


def from_files(root: str | Path = ".") -> list[Made]:
    """The history of this workspace, without MLflow."""
    known = dvc.read(root)
    return [
        Made(
            name=record.name,
            run_id=record.body["mlflow_run_id"],
            commit=record.body["git"]["commit"],
            dirty=record.body["git"]["dirty"],
            started=datetime.fromisoformat(record.body["started"]).timestamp(),
            params={key: str(value) for key, value in flat(record.body["params"]).items()},
            inputs={each["path"]: each["md5"] for each in record.body["inputs"]},
            outputs=written(record),
            code=code(record, known),
            sources=record.body.get("sources", {}),
        )
        for record in records(root)
    ]


def from_mlflow(client: Any, experiment: str) -> list[Made]:
    """Every finished run in MLflow, the oldest first."""
    made, token = [], None
    while True:
        page = client.search_runs(
            [experiment], "attributes.status = 'FINISHED'", max_results=1000,
            order_by=["attributes.start_time ASC"], page_token=token,
        )  # fmt: skip
        made += [of_run(run) for run in page]
        token = page.token
        if not token:
            return made


def of_run(run: Any) -> Made:
    """A run of MLflow's; one that was killed has no outputs, but what it read."""
    tags = run.data.tags
    sets = run.inputs.dataset_inputs if run.inputs else []
    return Made(
        name=run.info.run_name,
        run_id=tags.get(RUN_TAG, run.info.run_id),
        commit=tags.get("mlflow.source.git.commit", ""),
        dirty=tags.get("git.dirty") == "true",
        started=run.info.start_time / 1000,
        params=dict(run.data.params),
        inputs={each.dataset.name: json.loads(each.dataset.source)["md5"] for each in sets},
        outputs={key.removeprefix(OUTPUT): md5 for key, md5 in tags.items() if key.startswith(OUTPUT)},
        code={key.removeprefix(CODE): md5 for key, md5 in tags.items() if key.startswith(CODE)},
        sources=_sources(run),
        whole=run.info.status == "FINISHED",
    )


def _sources(run: Any) -> dict[str, str]:
    if SOURCES_TAG not in run.data.tags:
        return {}
    import mlflow

    found: dict[str, str] = mlflow.artifacts.load_dict(f"{run.info.artifact_uri}/{SOURCES}")
    return found
