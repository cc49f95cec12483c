"""Every checkpoint of a training as a logged model of its run, with its scores: MLflow can then be asked for one.

    mlflow.search_logged_models(filter_string="metrics.tokens < 256",
                                order_by=[{"field_name": "metrics.reasoning", "ascending": False}])

Of an adapter the weights are logged too. Full weights are not: only the checkpoint that is kept stays, in DVC.
"""

import shutil
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient

IDENTITY = "grandrounds.identity"


def log(client: "MlflowClient", experiment: str, run_id: str, body: dict[str, Any]) -> None:
    """Log the checkpoint of `body` {name, step, time, scores, tags, folder} as a model that this run put out.

    The run before, which was killed, may have logged it: then it is named as an output of this run too. The folder, if
    one is given, is ours, and removed once its files are logged.
    """
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus

    tags = {name: str(value) for name, value in body["tags"].items() if value}
    known = client.search_logged_models(
        [experiment], f"tags.`{IDENTITY}` = '{tags[IDENTITY]}' AND tags.step = '{body['step']}'"
    )
    ready = [model for model in known if str(model.status) == "READY"]
    for model in known:
        if str(model.status) == "PENDING":  # the server went away before its files were there
            client.finalize_logged_model(model.model_id, LoggedModelStatus.FAILED)
    model_id = ready[0].model_id if ready else _create(client, experiment, run_id, body, tags)
    client.log_outputs(run_id, [LoggedModelOutput(model_id, step=body["step"])])
    if body["folder"]:
        shutil.rmtree(body["folder"], ignore_errors=True)


def _create(client: "MlflowClient", experiment: str, run_id: str, body: dict[str, Any], tags: dict[str, str]) -> str:
    from mlflow.entities import LoggedModelStatus, Metric
    from mlflow.utils.mlflow_tags import MLFLOW_MODEL_IS_EXTERNAL

    external = {} if body["folder"] else {MLFLOW_MODEL_IS_EXTERNAL: "true"}
    logged = client.create_logged_model(
        experiment, name=body["name"], source_run_id=run_id, tags={**tags, "step": str(body["step"]), **external},
        model_type="transformers" if external else "peft-lora",
    )  # fmt: skip
    model = logged.model_id
    try:
        if body["folder"]:
            client.log_model_artifacts(model, body["folder"])
    except BaseException:
        client.finalize_logged_model(model, LoggedModelStatus.FAILED)
        raise
    client.finalize_logged_model(model, LoggedModelStatus.READY)
    rows = [
        Metric(name, value, body["time"], body["step"], model_id=model, run_id=run_id)
        for name, value in body["scores"].items()
        if value is not None
    ]
    if rows:
        client.log_batch(run_id, metrics=rows)
    return model
