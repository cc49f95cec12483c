"""`grandrounds pick` on the registry: what there is to choose from, and the alias for what was chosen."""

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from grandrounds.errors import UserError
from grandrounds.params import Params
from grandrounds.tracking import licences, lineage, lock, selecting, store
from grandrounds.tracking.lineage import Edge, Lineage
from grandrounds.tracking.selecting import Candidate, Picked

if TYPE_CHECKING:
    from mlflow import MlflowClient

BASE, TRAIN = "models/base", "data/curated/train.parquet"
CHECKPOINT = "checkpoint "  # before its name, in place of a path: it is no output of DVC's
LOST = "a checkpoint is in the MLflow store that its training logged to alone; restore that one (docs/deploy.md)"

# what stands in the registry beside a model's own files; the last one MLflow writes when it is downloaded
OURS = ("CARD.md", "MLmodel", "dvc.json", "val_answers.json", "registered_model_meta")


def look(params: Params, where: str, order_by: str, ascending: bool = False, checkpoints: bool = False) -> Picked:
    """Versions of the registered model, or checkpoints, that hold `where`, by `order_by`."""
    client, experiment = store.connect()
    split = params.publish.select_split
    if not checkpoints:
        return selecting.select(
            selecting.versions(client, params.publish.model_name), where, order_by, split, ascending
        )
    rows = selecting.checkpoints(client, experiment, split)
    if not rows:
        raise UserError("no training has logged a checkpoint; set `checkpoints.every` of adapt or grpo in params.yaml")
    return selecting.select(rows, where, order_by, split, ascending)


def name(params: Params, chosen: Candidate, alias: str, where: str, order_by: str) -> str:
    """Give the alias to a version, and write why; a checkpoint is made a version first. Returns the version."""
    client, experiment = store.connect()
    model = params.publish.model_name
    version = chosen.version or _register(client, experiment, params, chosen)
    reason = f"{alias}: highest {order_by}" + (f" where {where}" if where.strip() else "")
    client.set_model_version_tag(model, version, "picked", reason)
    client.set_registered_model_alias(model, alias, version)
    return version


def _register(client: "MlflowClient", experiment: str, params: Params, chosen: Candidate) -> str:
    model = params.publish.model_name
    origin = _origin(client, experiment, params, chosen)
    same = [row for row in client.search_model_versions(f"name = '{model}'") if store.model_id(row) == chosen.model_id]
    if same:
        for key, value in origin.items():
            client.set_model_version_tag(model, str(same[0].version), key, value)
        return str(same[0].version)
    import mlflow

    with tempfile.TemporaryDirectory() as folder:
        try:
            got = mlflow.artifacts.download_artifacts(f"models:/{chosen.model_id}", dst_path=folder)
        except Exception as error:  # MLflow raises of every kind for artifacts that are not there
            raise UserError(f"{chosen.name}: its weights were not logged, so it cannot be a version") from error
        md5 = own_digest(Path(got))
    # its scores are of a sample: under the names of an arm's, they would stand beside figures of the whole split
    tags = {**chosen.tags, **origin, **{f"sample.{key}": f"{value:.6g}" for key, value in chosen.scores.items()}}
    tags |= {"arm": chosen.name, "path": f"{CHECKPOINT}{chosen.name}", "output_md5": md5}
    made = client.create_model_version(
        model, f"models:/{chosen.model_id}", run_id=chosen.run_id or None, tags=tags, model_id=chosen.model_id
    )
    return str(made.version)


def _origin(client: "MlflowClient", experiment: str, params: Params, chosen: Candidate) -> dict[str, str]:
    """What `publish` tags an arm's version with, of the run that made the checkpoint."""
    node = lineage.of_checkpoint(client, experiment, chosen.run_id, chosen.model_id)
    if node is None:
        return {}
    inputs = {edge.path: edge.md5 for edge in node.inputs}
    tree = Lineage(params.publish.model_name, "", "", chosen.name, Edge(chosen.name, "", node))
    trained_on = {edge.md5 for each in tree.nodes() for edge in each.inputs if edge.path == TRAIN}
    data = trained_on.pop() if len(trained_on) == 1 else ""
    tags = {
        "base_md5": inputs.get(BASE, ""),
        "data_md5": data,
        "inputs": json.dumps(inputs, sort_keys=True),
        "commit": node.commit + ("-dirty" if node.dirty else ""),
        "stage": node.name,
        "seed": node.params.get("seed", ""),
    }
    known = lock.read()
    here = {path: entry.md5 for path in (TRAIN, BASE) if (entry := known.out(path))}
    # of other data or another base, the account of the licences is not in this workspace
    same = here == {TRAIN: data, BASE: tags["base_md5"]}
    tags |= licences.tags(params, Path()) if same else licences.UNCHECKED
    return {key: value for key, value in tags.items() if value}


def own_digest(folder: Path) -> str:
    """DVC's md5 of a model as the registry has it, without what stands there beside it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in OURS)
    return lock.folder_digest(folder, files)
