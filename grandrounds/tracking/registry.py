"""The model registry: every arm a version of one registered model, found by its bytes, with an alias of its own.

:func:`publish` may be run again: what is there already is found by its id or its md5, never made twice.
"""

import csv
import json
import re
import tempfile
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grandrounds import files
from grandrounds.errors import UserError
from grandrounds.params import Params
from grandrounds.tracking import history, licences, promotion, server, store
from grandrounds.tracking import lock as dvc
from grandrounds.tracking.history import Record
from grandrounds.tracking.stage import flat, run_tags
from grandrounds.tracking.writer import batches, log_record

if TYPE_CHECKING:
    from mlflow import MlflowClient

RESERVED = re.compile(r"^(champion|challenger|previous|latest|v\d+)$")  # the last two are MLflow's own


@dataclass(frozen=True)
class Registration:
    """What the registry holds after :func:`publish`. In a DVC experiment nothing is registered and all is empty."""

    versions: dict[str, str] = field(default_factory=dict)  # arm -> version
    new: tuple[str, ...] = ()  # arms that had no version with these bytes before
    champion: str = ""  # the arm under that alias, which may be of an earlier pipeline run
    champion_version: str = ""
    challenger: str = ""
    model: str = ""


def restore_runs(client: "MlflowClient", experiment: str, records: list[Record]) -> dict[str, str]:
    """Make sure that MLflow has the run of every run.json: run.json's id -> id in this database.

    A run that is missing (fresh clone, new database) is made again from run.json and curves.csv under a new id;
    its tag `grandrounds.run` holds the first one.
    """
    ids: dict[str, str] = {}
    for record in records:
        found = client.search_runs([experiment], _whole(record), max_results=1)
        ids[record.key] = found[0].info.run_id if found else _restore(client, experiment, record)
    return ids


def _whole(record: Record) -> str:
    return f"attributes.status = 'FINISHED' and tags.`{store.RUN_TAG}` = '{record.key}'"


def _restore(client: "MlflowClient", experiment: str, record: Record) -> str:
    from mlflow.entities import Metric, RunTag

    body = record.body
    half = f"attributes.status = 'RUNNING' and tags.`{store.RUN_TAG}` = '{record.key}'"
    for run in client.search_runs([experiment], half):  # the server went away before it could be told of the end
        client.set_terminated(run.info.run_id, "FAILED")
    start = int(datetime.fromisoformat(body["started"]).timestamp() * 1000)
    end = start + int(body["seconds"] * 1000)
    tags = {**run_tags(body), "grandrounds.restored": "true"}
    run_id = client.create_run(experiment, start, tags, record.name).info.run_id
    log_record(client, run_id, flat(body["params"]), body["inputs"], body.get("sources", {}))
    client.log_batch(run_id, tags=[RunTag(store.RUN_TAG, record.key)])
    curves = _curves(record.path.with_name("curves.csv"))
    last = max((step for _, _, step in curves), default=0)  # as StageRun.finish logs them
    rows = [Metric(name, value, start, step) for name, value, step in curves]
    rows += [Metric(name, float(value), end, last) for name, value in body["metrics"].items()]
    for part in batches(rows, 1000):
        client.log_batch(run_id, metrics=part)
    client.set_terminated(run_id, "FINISHED", end)
    return run_id


def _curves(path: Path) -> list[tuple[str, float, int]]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    cells = [(name, text, int(row["step"])) for row in rows for name, text in row.items() if text and name != "step"]
    return [(name, float(text), step) for name, text, step in cells if abs(float(text)) < float("inf")]


def tag_outputs(client: "MlflowClient", records: list[Record], ids: dict[str, str], root: str | Path = ".") -> None:
    """Tag every run with the md5 of what it wrote, and of the code and sources that it ran on, as dvc.lock has them.

    A run cannot do so itself: DVC writes a stage's entry after the stage has ended.
    """
    from mlflow.entities import RunTag

    known = dvc.read(root)
    for record in records:
        tags = {history.OUTPUT + path: md5 for path, md5 in history.written(record).items()}
        tags |= {history.CODE + path: md5 for path, md5 in history.code(record, known).items()}
        for part in batches([RunTag(key, md5) for key, md5 in tags.items()], 100):
            client.log_batch(ids[record.key], tags=part)


@dataclass(frozen=True)
class _Arm:
    """One arm as it is to be registered."""

    name: str
    path: str
    run_id: str
    tags: dict[str, str]
    card: str
    external: bool  # full weights, which stay in DVC
    answers: promotion.Answers  # which questions of the selection split it had right


@dataclass(frozen=True)
class _Workspace:
    root: Path
    lock: dvc.Lock
    records: dict[str, Record]  # by stage
    ids: dict[str, str]  # run.json's id -> MLflow's


@server.asking(store.tracking_uri)
def publish(params: Params, scores: dict[str, Any], cards: dict[str, str], root: str | Path = ".") -> Registration:
    """Restore and tag the runs of this workspace, register every scored arm, and set the aliases.

    `scores` is reports/judge/metrics.json, `cards` the Markdown model card of each arm. An arm whose bytes have a
    version already keeps it; its tags are brought up to date. The alias of each arm's name goes to its version,
    `challenger` to the best arm on the selection split; `champion` is set only where there is none, for only a person
    moves it. A DVC experiment registers nothing and moves no alias.
    """
    for name in params.predict.arms:
        if RESERVED.match(name):
            raise UserError(f"params.yaml: predict.arms.{name}: is an alias of the registry; give the arm another name")
    client, experiment = store.connect()
    records = history.records(root)
    ids = restore_runs(client, experiment, records)
    tag_outputs(client, records, ids, root)
    if store.in_experiment():
        return Registration(model=params.publish.model_name)
    workspace = _Workspace(Path(root), dvc.read(root), {record.name: record for record in records}, ids)
    arms = [
        _arm(name, params, scores[name], cards.get(name, ""), workspace)
        for name in params.predict.arms
        if name in scores
    ]
    return _register(client, experiment, params, scores, arms, Path(root))


def _register(
    client: "MlflowClient", experiment: str, params: Params, scores: dict[str, Any], arms: list[_Arm], root: Path
) -> Registration:
    model = params.publish.model_name
    best = best_arm(params, scores)
    _ensure_model(client, model)
    known = list(client.search_model_versions(f"name = '{model}'", max_results=10_000))
    versions: dict[str, str] = {}
    new: list[str] = []
    for arm in arms:
        same = [v for v in known if all(v.tags.get(key) == arm.tags[key] for key in ("arm", "output_md5"))]
        if same:
            versions[arm.name] = str(max(int(version.version) for version in same))
        else:
            versions[arm.name] = _add(client, experiment, model, arm, root)
            new.append(arm.name)
        _refresh(client, client.get_model_version(model, versions[arm.name]), arm)
        client.set_registered_model_alias(model, arm.name, versions[arm.name])
    client.set_registered_model_alias(model, "challenger", versions[best])
    aliases = client.get_registered_model(model).aliases
    if "champion" not in aliases:
        client.set_registered_model_alias(model, "champion", versions[best])
        aliases = {**aliases, "champion": versions[best]}
    champion = client.get_model_version(model, str(aliases["champion"]))
    return Registration(versions, tuple(new), champion.tags.get("arm", ""), str(champion.version), best, model)


def _refresh(client: "MlflowClient", version: Any, arm: _Arm) -> None:
    """Bring a version's tags, answers and description up to date: it may have been judged anew."""
    changed = {key: value for key, value in arm.tags.items() if version.tags.get(key) != value}
    if promotion.ANSWERS_MD5 in changed:
        promotion.log_answers(client, version, arm.answers)
    for key, value in changed.items():
        client.set_model_version_tag(version.name, str(version.version), key, value)
    text = promotion.description(arm.card, version.tags.get(promotion.WHY, ""))
    if version.description != text:
        client.update_model_version(version.name, str(version.version), text)


def best_arm(params: Params, scores: dict[str, Any]) -> str:
    """The arm with the highest strict accuracy under the reasoning prompt on the selection split."""
    split = params.publish.select_split
    found = {name: scores.get(name, {}).get(split, {}).get("accuracy") for name in params.predict.arms}
    rated = {name: accuracy for name, accuracy in found.items() if accuracy is not None}
    if not rated:
        raise UserError(f"reports/judge/metrics.json: no arm has an accuracy on '{split}'; run `dvc repro judge`")
    return max(rated, key=lambda name: rated[name])


def _ensure_model(client: "MlflowClient", name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.get_registered_model(name)
    except MlflowException:
        text = "Every arm of the Grand Rounds pipeline. For research only, never for clinical use."
        client.create_registered_model(name, description=text)


def _arm(name: str, params: Params, scores: dict[str, Any], card: str, workspace: _Workspace) -> _Arm:
    arm, known = params.predict.arms[name], workspace.lock
    path = dvc.plain(arm.adapter)
    producer = known.producer(path) or ""
    record = workspace.records.get(producer)
    body: dict[str, Any] = record.body if record else {"git": {"commit": "", "dirty": False}, "inputs": []}
    train, base = known.out("data/curated/train.parquet"), known.out("models/base")
    tags = {
        "arm": name,
        "title": arm.title,
        "family": arm.family,
        "path": path,
        "output_md5": dvc.digest(path, workspace.root, known).md5,
        "data_md5": train.md5 if train else "",
        "base_md5": base.md5 if base else "",
        "inputs": json.dumps({each["path"]: each["md5"] for each in body["inputs"]}, sort_keys=True),
        "commit": body["git"]["commit"] + ("-dirty" if body["git"]["dirty"] else ""),
        "stage": producer,
        "seed": str(params.seed),
        **licences.tags(params, workspace.root),
    }
    answers = promotion.answers(name, params.publish.select_split, workspace.root)
    if answers:
        tags[promotion.ANSWERS_MD5] = promotion.answers_md5(answers)
    tags |= {key: f"{value:.6g}" for key, value in _scores(scores).items()}
    external = not (workspace.root / path / "adapter_config.json").is_file()
    run_id = workspace.ids[record.key] if record else ""
    return _Arm(name, path, run_id, {key: value for key, value in tags.items() if value}, card, external, answers)


def _scores(scores: dict[str, Any]) -> dict[str, float]:
    """An arm's figures under the names that `grandrounds pick` knows: `val.accuracy`; what is unscored has none."""
    found: dict[str, float] = {}
    for split, figures in scores.items():
        if not isinstance(figures, dict):
            continue
        for name, value in figures.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                found[f"{split}.{name}"] = float(value)
        for name, part in figures.get("by_specialty", {}).items():
            if part.get("accuracy") is not None:
                found[f"{split}.{name}.accuracy"] = float(part["accuracy"])
    return found


def _add(client: "MlflowClient", experiment: str, model: str, arm: _Arm, root: Path) -> str:
    """A logged model of the stage's run, and a version of the registered model that points at it."""
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus
    from mlflow.utils.mlflow_tags import MLFLOW_MODEL_IS_EXTERNAL

    logged = client.create_logged_model(
        experiment, name=arm.name, source_run_id=arm.run_id or None,
        tags={**arm.tags, **({MLFLOW_MODEL_IS_EXTERNAL: "true"} if arm.external else {})},
        model_type="transformers" if arm.external else "peft-lora",
    )  # fmt: skip
    try:
        if not arm.external:
            client.log_model_artifacts(logged.model_id, str(files.need(root / arm.path)))
        with tempfile.TemporaryDirectory() as folder:
            _beside(Path(folder), arm, logged)
            client.log_model_artifacts(logged.model_id, folder)
    except BaseException:
        client.finalize_logged_model(logged.model_id, LoggedModelStatus.FAILED)
        raise
    client.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)
    if arm.run_id:
        client.log_outputs(arm.run_id, [LoggedModelOutput(logged.model_id, step=0)])
    version = client.create_model_version(
        model, f"models:/{logged.model_id}", run_id=arm.run_id or None, tags=arm.tags, model_id=logged.model_id
    )
    return str(version.version)


def _beside(folder: Path, arm: _Arm, logged: Any) -> None:
    """What is downloaded with a model: its card, where DVC has its bytes and its base, and MLflow's own description."""
    from mlflow.models.model import Model

    (folder / "CARD.md").write_text(arm.card, encoding="utf-8")
    files.write_json(folder / promotion.ANSWERS, arm.answers)
    where = {
        "path": arm.path,
        "md5": arm.tags["output_md5"],
        "commit": arm.tags.get("commit", ""),
        "base": {"path": "models/base", "md5": arm.tags.get("base_md5", "")},
        "get": f"dvc pull {arm.path}" if arm.external else "dvc pull models/base",
    }
    files.write_json(folder / "dvc.json", where)
    description = Model(
        model_id=logged.model_id,
        run_id=arm.run_id or None,
        artifact_path=logged.artifact_location,
        metadata={key: value for key, value in arm.tags.items() if key != "inputs"},
    )
    description.save(str(folder / "MLmodel"))
