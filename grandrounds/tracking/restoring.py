"""An empty MLflow database after `git clone` and `dvc pull`: runs, versions, aliases and lineage made again.

From what Git and DVC keep: run.json and curves.csv of every stage, the scores, the cards, the journal of promotions.
Runs get new ids; the first ones stay in the tag `grandrounds.run`. Doing it again changes nothing.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grandrounds import files
from grandrounds.errors import UserError
from grandrounds.params import Params
from grandrounds.tracking import history, picking, promotion, registry, store

if TYPE_CHECKING:
    from mlflow import MlflowClient

SCORES, PUBLISHED, CARDS = "reports/judge/metrics.json", "reports/publish/metrics.json", "reports/cards"


@dataclass(frozen=True)
class Restored:
    runs: int  # of this workspace, all of which MLflow has now
    versions: dict[str, str]  # arm -> version
    new: tuple[str, ...]  # arms that had no version with these bytes
    aliases: dict[str, str]  # alias -> version
    lost: tuple[str, ...]  # aliases whose version's bytes are not in this workspace, and where they are


def restore(params: Params, root: str | Path = ".") -> Restored:
    """Rebuild what is missing. `champion` and `previous` are set only where the database has none.

    UserError for a model that is not in the workspace (`dvc pull`), and inside a DVC experiment.
    """
    if store.in_experiment():
        raise UserError("restore: not inside a DVC experiment, which registers nothing")
    folder = Path(root)
    scores: dict[str, Any] = files.read_json(folder / SCORES)
    cards = {path.stem: path.read_text(encoding="utf-8") for path in sorted((folder / CARDS).glob("*.md"))}
    client, _ = store.connect()
    model = params.publish.model_name
    before = _aliases(client, model)
    registered = registry.publish(params, scores, cards, root)
    lost = [] if "champion" in before else _set(client, params, registered.versions, folder)
    return Restored(
        len(history.records(root)), registered.versions, registered.new, _aliases(client, model), tuple(lost)
    )


def _aliases(client: "MlflowClient", model: str) -> dict[str, str]:
    if not client.search_registered_models(f"name = '{model}'"):
        return {}
    return {alias: str(version) for alias, version in client.get_registered_model(model).aliases.items()}


def _set(client: "MlflowClient", params: Params, versions: dict[str, str], root: Path) -> list[str]:
    """`champion` and `previous` as the last move in the journal left them; before any move, as `publish` had it."""
    model = params.publish.model_name
    moves = [row for row in promotion.journal(root) if row["action"] != "refused" and row["model"] == model]
    tags = {arm: client.get_model_version(model, number).tags for arm, number in versions.items()}
    if not moves:
        arm = files.read_json(root / PUBLISHED).get("champion") if (root / PUBLISHED).is_file() else None
        wanted = {"champion": {"arm": arm, "md5": tags[arm]["output_md5"]}} if arm in tags else {}
    else:
        last = moves[-1]
        sides = {"champion": last["challenger"], "previous": last["champion"]}
        wanted = {alias: side for alias, side in sides.items() if side["md5"]}
    lost = []
    for alias, side in wanted.items():
        if tags.get(side["arm"], {}).get("output_md5") == side["md5"]:
            client.set_registered_model_alias(model, alias, versions[side["arm"]])
        else:
            lost.append(f"{alias} ({side['arm']}, {side['md5']}): {_where(side)}")
    for row in moves:
        arm, md5 = row["challenger"]["arm"], row["challenger"]["md5"]
        if tags.get(arm, {}).get("output_md5") == md5:
            sentence = f"{row['at'][:10]}: {row['action']}: {row['why']}"
            client.set_model_version_tag(model, versions[arm], promotion.WHY, sentence)
    return lost


def _where(side: dict[str, str]) -> str:
    """How to come by the bytes of a version that the journal names."""
    if side.get("path", "").startswith(picking.CHECKPOINT):
        return picking.LOST
    return "its bytes are not in this checkout; `git checkout` the commit that has them"
