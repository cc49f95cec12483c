"""Who may be champion: a model that is not worse than the champion by more than a margin, on the validation split.

Non-inferiority, by the lower end of the 95 % interval of the paired difference by group (patient, slab, article): "no
significant difference" would let any model through that was asked few questions. Which questions a version had right
is kept with it in the registry, so that a champion of last year can be compared when its predictions are long gone.

Every move is written three times: as tags and description of the version, and as a line of reports/promotions.jsonl,
which Git keeps and from which `grandrounds restore` sets the aliases again.
"""

import hashlib
import json
import tempfile
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grandrounds import files
from grandrounds.domain.statistics import FEWEST_CLUSTERS, Resampler
from grandrounds.errors import UserError
from grandrounds.params import Params
from grandrounds.tracking import store
from grandrounds.tracking.lineage import find_version

if TYPE_CHECKING:
    from mlflow import MlflowClient

ANSWERS = "val_answers.json"  # beside every registered model: {question id: [group, right]}
ANSWERS_MD5 = "answers_md5"  # tag of a version that has them
JOURNAL = Path("reports/promotions.jsonl")
WHY = "promotion"  # tag of a version: the sentence of its last decision

NAMED = {"arm": "arm", "md5": "output_md5", "path": "path"}  # a line of the journal: tags of its versions

Answers = dict[str, list[Any]]


@dataclass(frozen=True)
class Decision:
    """A challenger beside the champion. `low` and `high` are the ends of the 95 % interval of `difference`."""

    challenger: str  # versions
    champion: str
    passed: bool
    why: str
    n: int = 0
    groups: int = 0
    difference: float | None = None
    low: float | None = None
    high: float | None = None


def answers(arm: str, split: str, root: str | Path = ".") -> Answers:
    """What an arm had right on the split under the reasoning prompt; empty where it was not asked there."""
    predictions, questions = Path(root, f"data/predictions/{arm}.parquet"), Path(root, f"data/curated/{split}.parquet")
    if not predictions.is_file() or not questions.is_file():
        return {}
    import pyarrow.parquet as pq

    # by column, so that files of before a column was added are read too
    asked = pq.read_table(questions, columns=["id", "group"])
    groups = dict(zip(asked["id"].to_pylist(), asked["group"].to_pylist(), strict=True))
    rows = pq.read_table(predictions, columns=["question_id", "split", "prompt", "correct"]).to_pylist()
    told = [row for row in rows if row["split"] == split and row["prompt"] == "reasoning"]
    return {
        row["question_id"]: [groups[row["question_id"]], row["correct"]] for row in told if row["question_id"] in groups
    }


def compare(new: Answers, old: Answers, margin: float, resamples: int, seed: int) -> dict[str, Any]:
    """The paired test, on the questions that both were asked: the fields of :class:`Decision` but for the versions."""
    shared = sorted(set(new) & set(old))
    groups = [str(new[name][0]) for name in shared]
    n, clusters = len(shared), len(set(groups))
    found = {"n": n, "groups": clusters}
    if clusters < FEWEST_CLUSTERS:
        why = f"both answered {n} questions of {clusters} groups; a test wants {FEWEST_CLUSTERS} groups or more"
        return {**found, "passed": False, "why": why}
    interval = Resampler(groups, resamples, seed).difference(
        [float(new[name][1]) for name in shared], [float(old[name][1]) for name in shared]
    )
    assert interval.value is not None and interval.low is not None and interval.high is not None  # clusters > 1
    passed = interval.low >= -margin
    judged = "not worse" if passed else "not shown to be not worse"
    why = (
        f"{100 * interval.value:+.1f} points [{100 * interval.low:+.1f}, {100 * interval.high:+.1f}] on {n} questions "
        f"of {clusters} groups: {judged} by more than the margin of {100 * margin:g}"
    )
    return {**found, "passed": passed, "why": why} | {
        key: round(getattr(interval, name), 6)
        for key, name in (("difference", "value"), ("low", "low"), ("high", "high"))
    }


def promote(params: Params, model: str, alias: str, root: str | Path = ".") -> Decision:
    """Move `champion` to the version under `alias`, if the test allows it; the old one becomes `previous`.

    A refusal is written too, as a tag of the version that was refused. UserError where there is nothing to compare.
    """
    client, _ = store.connect()
    new = find_version(client, model, alias)
    split = params.publish.select_split
    known = client.get_registered_model(model).aliases
    if "champion" not in known:
        decision = Decision(str(new.version), "", True, "there was no champion")
    elif str(known["champion"]) == str(new.version):
        raise UserError(f"{model}@{alias}: version {new.version} is the champion already")
    else:
        old = client.get_model_version(model, known["champion"])
        found = compare(
            _logged(client, new, split), _logged(client, old, split),
            params.publish.margin, params.judge.resamples, params.seed,
        )  # fmt: skip
        decision = Decision(str(new.version), str(old.version), **found)
    _write(client, model, new, decision)
    if decision.passed:
        _move(client, model, decision.challenger, decision.champion)
    _note(client, model, "promoted" if decision.passed else "refused", decision, root)
    return decision


def unanswered(model: str, alias: str) -> list[str]:
    """Of the two versions that :func:`promote` would compare, those whose answers were never kept: checkpoints."""
    client, _ = store.connect()
    new = find_version(client, model, alias)
    champion = client.get_registered_model(model).aliases.get("champion")
    if champion in (None, str(new.version)):
        return []
    both = (new, client.get_model_version(model, champion))
    return [str(each.version) for each in both if store.model_id(each) and not each.tags.get(ANSWERS_MD5)]


def keep(model: str, version: str, answers: Answers, tags: dict[str, str]) -> None:
    """Write a version's answers beside its weights, then its tags: whoever sees the tag finds the answers."""
    client, _ = store.connect()
    log_answers(client, client.get_model_version(model, version), answers)
    for key, value in {**tags, ANSWERS_MD5: answers_md5(answers)}.items():
        client.set_model_version_tag(model, version, key, value)


def log_answers(client: "MlflowClient", version: Any, answers: Answers) -> None:
    with tempfile.TemporaryDirectory() as folder:
        files.write_json(Path(folder, ANSWERS), answers)
        client.log_model_artifacts(store.model_id(version), folder)


def answers_md5(answers: Answers) -> str:
    return hashlib.md5(json.dumps(answers, sort_keys=True).encode(), usedforsecurity=False).hexdigest()


def rollback(model: str, root: str | Path = ".") -> Decision:
    """Make `previous` the champion again; the one that it replaces becomes `previous`, so that twice is as before."""
    client, _ = store.connect()
    new, old = find_version(client, model, "previous"), find_version(client, model, "champion")
    if str(new.version) == str(old.version):
        raise UserError(f"{model}: champion and previous are both version {new.version}; nothing to go back to")
    decision = Decision(str(new.version), str(old.version), True, f"rolled back from version {old.version}")
    _write(client, model, new, decision)
    _move(client, model, decision.challenger, decision.champion)
    _note(client, model, "rolled back", decision, root)
    return decision


def _logged(client: "MlflowClient", version: Any, split: str) -> Answers:
    """The answers kept with a version."""
    from mlflow.exceptions import MlflowException

    arm = version.tags.get("arm", "a checkpoint")
    missing = UserError(
        f"{version.name} version {version.version} ({arm}): its answers on '{split}' are not in the registry; "
        "`grandrounds restore` writes those of an arm whose predictions are in the workspace"
    )
    if not store.model_id(version) or not version.tags.get(ANSWERS_MD5):
        raise missing
    import mlflow

    try:
        where = client.get_logged_model(store.model_id(version)).artifact_location
        found: Answers = mlflow.artifacts.load_dict(f"{where}/{ANSWERS}")
    except (MlflowException, OSError) as error:
        raise missing from error
    return found


def _write(client: "MlflowClient", model: str, version: Any, decision: Decision) -> None:
    """Before any alias moves: a champion without a reason cannot come about."""
    when = datetime.now(UTC).isoformat(timespec="seconds")
    beside = f" beside version {decision.champion}" if decision.champion else ""
    verb = "promoted" if decision.passed else "refused"
    sentence = f"{when[:10]}: {verb}{beside}: {decision.why}"
    client.set_model_version_tag(model, str(version.version), WHY, sentence)
    client.set_model_version_tag(model, str(version.version), "promotion_at", when)
    client.update_model_version(model, str(version.version), description(version.description or "", sentence))


def description(card: str, sentence: str) -> str:
    """A version's description in MLflow, which holds 5000 characters: why it was promoted, then its card.

    Without the card's front matter: MLflow shows that YAML as prose.
    """
    mark, front = "> ", "---\n"
    card = card.partition("\n\n")[2] if card.startswith(mark) else card
    card = card.partition(f"\n{front}")[2].lstrip() if card.startswith(front) else card
    return (f"{mark}{sentence}\n\n{card}" if sentence else card)[:5000]


def _move(client: "MlflowClient", model: str, new: str, old: str) -> None:
    if old:
        client.set_registered_model_alias(model, "previous", old)
    client.set_registered_model_alias(model, "champion", new)


def _note(client: "MlflowClient", model: str, action: str, decision: Decision, root: str | Path) -> None:
    """A line of the journal. Versions are numbered anew in another database, so it names arm and md5 as well."""

    def named(number: str) -> dict[str, str]:
        tags = client.get_model_version(model, number).tags if number else {}
        return {"version": number, **{to: tags.get(key, "") for to, key in NAMED.items()}}

    line = asdict(decision) | {"model": model, "action": action, "at": datetime.now(UTC).isoformat(timespec="seconds")}
    line |= {"challenger": named(decision.challenger), "champion": named(decision.champion)}
    path = Path(root) / JOURNAL
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, sort_keys=True) + "\n")


def journal(root: str | Path = ".") -> list[dict[str, Any]]:
    """Every decision, the oldest first; UserError naming the line that cannot be read."""
    path = Path(root) / JOURNAL
    if not path.is_file():
        return []
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            rows.append(json.loads(line))
        except ValueError:
            raise UserError(f"{path}:{number}: not JSON; remove the line, or `git checkout {JOURNAL}`") from None
    return rows
