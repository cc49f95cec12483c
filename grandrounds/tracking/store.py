"""Where MLflow's runs are: one place for all of a project's runs, whatever folder a stage works in."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grandrounds.errors import UserError, one_line
from grandrounds.params import root
from grandrounds.tracking import server

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "grandrounds"
RUN_TAG = "grandrounds.run"  # the id that run.json gives a run, also of one that was restored under another id

SOURCES, SOURCES_TAG = "sources.json", "grandrounds.sources"  # artifact: each source file's md5; tag: how many


def place() -> Path:
    """The project folder that owns `.mlflow`. In a DVC experiment the working folder is a copy, DVC_ROOT is not."""
    return Path(os.environ.get("DVC_ROOT") or root()).resolve()


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI, else the project's own sqlite file under an absolute path."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{place() / '.mlflow' / 'mlflow.db'}"


def experiment_tags() -> dict[str, str]:
    """What DVC says of the experiment that a stage runs in; empty for a plain `dvc repro`."""
    named = {"dvc.experiment": "DVC_EXP_NAME", "dvc.baseline": "DVC_EXP_BASELINE_REV", "dvc.stage": "DVC_STAGE"}
    return {tag: os.environ[variable] for tag, variable in named.items() if os.environ.get(variable)}


def in_experiment() -> bool:
    return bool(os.environ.get("DVC_EXP_NAME") or os.environ.get("DVC_EXP_BASELINE_REV"))


def connect() -> "tuple[MlflowClient, str]":
    """A client and the id of the experiment, both made where they were missing.

    MLflow creates its tables without a lock: of six processes that start on no database, five fail. So one at a time.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # a server that answered once and is restarted is waited for: 2 + 4 + 8 + 16 + 32 s
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "5")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    uri = tracking_uri()
    if server.remote(uri):
        server.check(uri)
    if not uri.startswith("sqlite:"):
        return _connect(uri, None)
    from filelock import FileLock

    folder = Path(uri.removeprefix("sqlite:///")).absolute().parent  # relative is to where we are, as MLflow has it
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "mlflow.lock", timeout=300):
        return _connect(uri, (folder / "artifacts").as_uri())


def _use(uri: str) -> None:
    """MLflow resolves `models:/` by its global setting, whatever the client's own; and it exports that to children."""
    import mlflow

    before = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(uri)
    if before is None:
        os.environ.pop("MLFLOW_TRACKING_URI", None)


def _connect(uri: str, artifacts: str | None) -> "tuple[MlflowClient, str]":
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    _use(uri)
    try:
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        experiment = client.get_experiment_by_name(EXPERIMENT)
    except MlflowException as error:
        text = one_line(str(error)).replace(uri, server.shown(uri))
        raise UserError(f"MLflow at {server.shown(uri)}: {text}; see MLFLOW_TRACKING_URI") from error
    if experiment is None:
        try:
            return client, client.create_experiment(EXPERIMENT, artifact_location=artifacts)
        except MlflowException:  # on a server, another process may have been first
            experiment = client.get_experiment_by_name(EXPERIMENT)
            if experiment is None:
                raise
    return client, experiment.experiment_id


def model_id(version: Any) -> str:
    """The logged model that a registered version points at; MLflow's stores keep it in the source alone."""
    source = str(version.source or "")
    return source.removeprefix("models:/") if source.startswith("models:/") else ""
