"""From bytes up to models: which were trained on this file, and what a patient's withdrawal means.

The same records as :mod:`grandrounds.tracking.lineage`, walked the other way, over all runs, reruns and experiments. A
run is reached when it read the path with that md5, and then everything that it wrote is: as coarse as the pipeline's
own deps, so that nothing is missed. What was trained (from `train` or `pretrain`) is told apart from what was only
chosen or measured (from `val`, `test`, `unseen`).
"""

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grandrounds.errors import UserError, unknown
from grandrounds.tracking import history, lock, picking, store, verifying
from grandrounds.tracking.history import Made

if TYPE_CHECKING:
    from rich.tree import Tree

CURATED, TRAINED = "data/curated/", ("train", "pretrain")


@dataclass(frozen=True)
class Reached:
    """One model that depends on the bytes asked about."""

    path: str
    md5: str
    run: str  # the stage that wrote it
    run_id: str
    trained: bool  # False: only chosen or measured on them
    versions: tuple[str, ...]  # in the registry, with their aliases: "3 (champion, sft)"


@dataclass(frozen=True)
class Impact:
    """Where the bytes are, and what came of them."""

    asked: str
    starts: dict[tuple[str, str], str]  # (path, md5) -> what is known of it
    reached: list[Reached]
    outputs: list[tuple[str, str]] = field(default_factory=list)  # everything else that depends on them
    unknown: list[str] = field(default_factory=list)  # what could not be looked into

    @property
    def retrain(self) -> list[Reached]:
        return [each for each in self.reached if each.trained]


def of_file(path: str, root: str | Path = ".") -> Impact:
    """What was made from this path, with any bytes that it ever had; UserError where no run read it."""
    made, versions = everything(root)
    wanted = lock.plain(path)
    read = {pair for each in made for pair in _read(each).items()}
    pairs = {pair for pair in read if pair[0] == wanted}
    notes: list[str] = []
    if not pairs:  # a file of a folder that is a dep as a whole, read by a run that did not list its files
        unlisted = {pair for each in made if not each.sources for pair in _read(each).items()}
        pairs = {pair for pair in unlisted if wanted.startswith(pair[0] + "/") and pair[1].endswith(".dir")}
        notes = [
            f"{name} {md5}: its files are not recorded, so whether {wanted} was among them is unknown"
            for name, md5 in sorted(pairs)
        ]
    if not pairs:
        raise unknown("file of any run", wanted, {name for name, _ in read})
    there = Path(root, wanted)
    now = verifying.rehash(there, root) if there.exists() and not notes else None
    told = {pair: "" if now is None else "as it is now" if pair[1] == now else "other bytes than now" for pair in pairs}
    return _impact(wanted, told, made, versions, notes)


def of_group(group: str, root: str | Path = ".") -> Impact:
    """What depends on the questions of one group (patient, slab, article), in any version of the curated splits.

    Old versions are read from DVC's cache; one that is not there is named in `unknown`. UserError with the nearest
    name where no version has the group.
    """
    made, versions = everything(root)
    cache, known = verifying.cache_of(root), set[str]()
    told: dict[tuple[str, str], str] = {}
    notes: list[str] = []
    outputs = {pair for each in made for pair in each.outputs.items()}
    for path, md5 in sorted(pair for pair in outputs if pair[0].startswith(CURATED) and pair[0].endswith(".parquet")):
        groups = _groups(path, md5, Path(root), cache)
        if groups is None:
            notes.append(
                f"{path} {md5}: neither here nor in DVC's cache, so not looked into (`dvc fetch --all-commits`)"
            )
            continue
        known |= set(groups)
        if group in groups:
            told[path, md5] = f"{groups.count(group)} of its questions"
    if not told:
        raise unknown("group", group, known) if len(known) < 30 else _nearest(group, known)
    return _impact(group, told, made, versions, notes)


def _nearest(group: str, known: set[str]) -> UserError:
    import difflib

    near = ", ".join(f"'{name}'" for name in difflib.get_close_matches(group, known, n=3, cutoff=0.4))
    hint = f"; the nearest are {near}" if near else ""
    return UserError(f"unknown group '{group}': none of {len(known)} groups in {CURATED}*.parquet{hint}")


def _groups(path: str, md5: str, root: Path, cache: Path) -> list[str] | None:
    import pyarrow.parquet as pq

    for place in (root / path, verifying.cached(md5, cache)):
        if place.is_file() and lock.file_md5(place) == md5:
            with place.open("rb") as file:
                table = pq.read_table(file)
            return table["group"].to_pylist() if "group" in table.column_names else []
    return None


def everything(root: str | Path = ".") -> tuple[list[Made], dict[str, list[str]]]:
    """(every run known to the workspace or MLflow, md5 of a model -> its versions with their aliases).

    A checkpoint that was made a version counts as written by a run of its own.
    """
    client, experiment = store.connect()
    unique = {
        (each.name, each.run_id): each for each in [*history.from_files(root), *history.from_mlflow(client, experiment)]
    }
    versions: dict[str, list[str]] = defaultdict(list)
    for model in client.search_registered_models():
        aliases: dict[str, list[str]] = defaultdict(list)
        for alias, number in client.get_registered_model(model.name).aliases.items():
            aliases[str(number)].append(alias)
        for row in client.search_model_versions(f"name = '{model.name}'", max_results=10_000):
            named = ", ".join(sorted(aliases[str(row.version)]))
            text = f"{model.name} version {row.version}" + (f" ({named})" if named else "")
            md5 = row.tags.get("output_md5", "")
            versions[md5].append(text)
            if (path := row.tags.get("path", "")).startswith(picking.CHECKPOINT) and row.run_id:
                run = history.of_run(client.get_run(row.run_id))  # killed perhaps, and no stage's output in any case
                unique[path, row.version] = replace(run, outputs={path: md5})
    return sorted(unique.values(), key=lambda each: each.started), versions


def _read(made: Made) -> dict[str, str]:
    """Path -> md5 of all that a run read: inputs, code, and the single files of its source folders."""
    return {**made.code, **made.sources, **made.inputs}


def _impact(
    asked: str, told: dict[tuple[str, str], str], made: list[Made], versions: dict[str, list[str]], notes: list[str]
) -> Impact:
    held_out = [pair for pair in told if pair[0].startswith(CURATED) and Path(pair[0]).stem not in TRAINED]
    whole, trained = _downstream(told, made), _downstream([pair for pair in told if pair not in held_out], made)
    reached, others = [], []
    for pair, each in whole.items():
        if pair[0].startswith(("models/", picking.CHECKPOINT)):
            known = tuple(versions.get(pair[1], ()))
            reached.append(Reached(*pair, each.name, each.run_id, pair in trained, known))
        else:
            others.append(pair)
    return Impact(asked, dict(sorted(told.items())), reached, others, notes)


def _downstream(starts: Iterable[tuple[str, str]], made: list[Made]) -> dict[tuple[str, str], Made]:
    """Every (path, md5) that a run wrote which read one of these, or of what they led to; with the run."""
    readers: dict[tuple[str, str], list[Made]] = defaultdict(list)
    for each in made:
        for pair in _read(each).items():
            readers[pair].append(each)
    found: dict[tuple[str, str], Made] = {}
    todo = list(starts)
    while todo:
        for each in readers[todo.pop()]:
            for pair in each.outputs.items():
                if pair not in found:
                    found[pair] = each
                    todo.append(pair)
    return found


def as_dict(found: Impact) -> dict[str, Any]:
    """As plain values, for a program."""
    starts = [{"path": path, "md5": md5, "note": note} for (path, md5), note in found.starts.items()]
    models = [{**vars(each), "versions": list(each.versions)} for each in found.reached]
    outputs = [{"path": path, "md5": md5} for path, md5 in found.outputs]
    return {"asked": found.asked, "starts": starts, "models": models, "outputs": outputs, "unknown": found.unknown}


def render(found: Impact) -> "Tree":
    """The tree for a terminal."""
    from rich.text import Text
    from rich.tree import Tree

    top = Tree(Text(found.asked, style="bold"))
    stands = top.add("stands in")
    for (path, md5), note in found.starts.items():
        stands.add(Text(f"{path}  {md5}" + (f"  {note}" if note else ""), style="cyan", overflow="fold"))
    for heading, trained in (
        ("trained on it: to be retrained", True),
        ("chosen or measured on it: to be judged anew", False),
    ):
        rows = [each for each in found.reached if each.trained is trained]
        branch = top.add(Text(f"{heading}: {len(rows)} models", style="bold"))
        for each in rows:
            line = Text(f"{each.path}  {each.md5}", style="cyan", overflow="fold")
            branch.add(line.append(f"  {each.run}  {'; '.join(each.versions) or 'not registered'}", style="default"))
    for note in found.unknown:
        top.add(Text(f"not known: {note}", style="yellow", overflow="fold"))
    return top


def dumps(found: Impact) -> str:
    return json.dumps(as_dict(found), indent=1, ensure_ascii=False)
