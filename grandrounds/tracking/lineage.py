"""From a registered model down to the bytes that it came from: version -> run -> inputs -> runs -> sources.

Two records are joined where a path and its md5 are the output of one and the input of the other. A file name alone
proves nothing: models/base of last week is another model.
"""

import math
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grandrounds.errors import UserError, unknown
from grandrounds.params import load, root
from grandrounds.tracking import history, store
from grandrounds.tracking import lock as dvc
from grandrounds.tracking.history import Made

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from rich.tree import Tree

CODE = re.compile(r"^(tasks/|grandrounds/(?!sources\b)).*|.*\.py$")
SHOWN = 8  # params of one node in the printed tree


@dataclass(frozen=True)
class Edge:
    """One thing that a stage read (or that is the model): a path, its md5, and the node that it came from."""

    path: str
    md5: str
    node: "Node | None"  # None: a source, which no stage wrote


@dataclass(frozen=True)
class Node:
    """One run of one stage, with everything that it read."""

    name: str
    run_id: str
    commit: str
    dirty: bool
    params: dict[str, str]
    inputs: tuple[Edge, ...]
    code: dict[str, str] = field(default_factory=dict)  # path -> md5 of the files of the program
    files: dict[str, str] = field(default_factory=dict)  # path -> md5 of each file in the source folders that it read
    whole: bool = True  # False: its run was killed, and its code is not recorded


@dataclass(frozen=True)
class Lineage:
    """The tree under one model. A node that two others share is the same object in both."""

    model: str
    version: str
    alias: str
    arm: str
    root: Edge

    def nodes(self) -> list[Node]:
        """Every stage once, the model's own first."""
        seen: dict[int, Node] = {}

        def visit(edge: Edge) -> None:
            if edge.node is not None and id(edge.node) not in seen:
                seen[id(edge.node)] = edge.node
                for each in edge.node.inputs:
                    visit(each)

        visit(self.root)
        return list(seen.values())

    def sources(self) -> list[Edge]:
        """The leaves: what no stage wrote."""
        found = {(edge.path, edge.md5): edge for node in self.nodes() for edge in node.inputs if edge.node is None}
        return list(found.values())

    def source_files(self) -> dict[str, str]:
        """Path -> md5 of every single file in the source folders, as far as their runs listed them."""
        return {path: md5 for node in self.nodes() for path, md5 in node.files.items()}


def walk(model: str, alias: str) -> Lineage:
    """The lineage of `<model>@<alias>` in the MLflow registry; `alias` may also be a version number.

    UserError, with the nearest valid name, where the model or the alias is unknown.
    """
    uri = store.tracking_uri()
    if uri.startswith("sqlite:") and not Path(uri.removeprefix("sqlite:///")).is_file():
        raise UserError(
            f"{uri}: no MLflow database yet; `dvc repro` makes one (after `dvc pull`: `dvc repro -s -f publish`)"
        )
    client, experiment = store.connect()
    version = find_version(client, model, alias)
    return Lineage(model, str(version.version), alias, version.tags.get("arm", ""), _edge(client, experiment, version))


def _edge(client: "MlflowClient", experiment: str, version: Any) -> Edge:
    path, md5 = version.tags.get("path", ""), version.tags.get("output_md5", "")
    if not md5:
        raise UserError(
            f"{version.name} version {version.version}: no tag 'output_md5', so `publish` did not register it"
        )
    edge = _Builder(_known(client, experiment)).edge(path, md5, version.creation_timestamp / 1000)
    if edge.node is None and version.run_id:  # a checkpoint, which is no output of DVC's: its run made it
        return Edge(path, md5, of_checkpoint(client, experiment, version.run_id, store.model_id(version)))
    return edge


def _known(client: "MlflowClient", experiment: str) -> list[Made]:
    """Of a run that is in both, MLflow's record wins."""
    return [*history.from_files(root()), *history.from_mlflow(client, experiment)]


def of_checkpoint(client: "MlflowClient", experiment: str, run_id: str, model_id: str) -> Node | None:
    """The tree under the run that logged a checkpoint; of one that was killed, under the run that went on from there.

    Only a run that ended has its code recorded; one that resumed another names that one's checkpoints as its own.
    """
    made = _known(client, experiment)
    own = history.of_run(client.get_run(run_id))
    ended = {each.run_id: each for each in made if each.name == own.name}
    if own.run_id not in ended:
        same = f"attributes.status = 'FINISHED' and attributes.run_name = '{own.name}'"
        for run in client.search_runs([experiment], same):
            outputs = client.get_run(run.info.run_id).outputs
            if outputs and any(each.model_id == model_id for each in outputs.model_outputs):
                own = history.of_run(run)
    return _Builder(made).node(ended.get(own.run_id, own))


def find_version(client: Any, model: str, alias: str) -> Any:
    from mlflow.exceptions import MlflowException

    try:
        registered = client.get_registered_model(model)
    except MlflowException:
        names = [each.name for each in client.search_registered_models()]
        raise unknown("registered model", model, names) from None
    try:
        number = alias if alias.isdecimal() else registered.aliases[alias]
        return client.get_model_version(model, number)
    except (KeyError, MlflowException):
        raise UserError(f"{model}: {unknown('alias', alias, registered.aliases)}") from None


def champion_lineage_from_files(arm: str, folder: str | Path = ".") -> Lineage:
    """The same walk for an arm of this workspace, from reports/**/run.json and dvc.lock, without MLflow."""
    params = load(Path(folder) / "params.yaml")
    if arm not in params.predict.arms:
        raise unknown("arm", arm, params.predict.arms)
    path = dvc.plain(params.predict.arms[arm].adapter)
    known = dvc.read(folder)
    entry = known.out(path) or dvc.digest(path, folder, known)
    edge = _Builder(history.from_files(folder)).edge(path, entry.md5, math.inf)
    return Lineage(params.publish.model_name, "", "", arm, edge)


class _Builder:
    """Joins records by (path, md5); each record becomes one node, however often it is reached."""

    def __init__(self, made: Iterable[Made]) -> None:
        self.by_output: dict[tuple[str, str], list[Made]] = defaultdict(list)
        unique = {(each.name, each.run_id): each for each in made}
        for each in sorted(unique.values(), key=lambda each: each.started):
            for pair in each.outputs.items():
                self.by_output[pair].append(each)
        self.nodes: dict[str, Node] = {}
        self.open: set[str] = set()

    def edge(self, path: str, md5: str, before: float) -> Edge:
        """The same bytes may come from several runs: taken is the last one that started before the reader did."""
        makers = self.by_output.get((path, md5), [])
        earlier = [made for made in makers if made.started <= before]
        made = earlier[-1] if earlier else next(iter(makers), None)
        return Edge(path, md5, self.node(made) if made else None)

    def node(self, made: Made) -> Node | None:
        key = f"{made.name} {made.run_id}"
        if key in self.open:  # only a damaged record can be its own ancestor
            return None
        if key not in self.nodes:
            self.open.add(key)
            sources = {path: md5 for path, md5 in made.code.items() if not CODE.match(path)}
            edges = [self.edge(*pair, made.started) for pair in made.inputs.items()]
            edges += [Edge(path, md5, None) for path, md5 in sources.items() if path not in made.inputs]
            program = {path: md5 for path, md5 in made.code.items() if path not in sources}
            self.nodes[key] = Node(
                made.name,
                made.run_id,
                made.commit,
                made.dirty,
                made.params,
                tuple(edges),
                program,
                made.sources,
                made.whole,
            )
            self.open.discard(key)
        return self.nodes[key]


def main_params(node: Node) -> dict[str, str]:
    """The params of a node's own section under short names: `learning_rate`, `lora.r`, `source.type`."""
    stage, _, item = node.name.partition("@")
    short: dict[str, str] = {}
    for key, value in node.params.items():
        for prefix in (f"{stage}.items.{item}.", f"{stage}.arms.{item}.", f"{stage}.training.", f"{stage}."):
            if key.startswith(prefix):
                short[key.removeprefix(prefix)] = value
                break
    return short


def render(lineage: Lineage) -> "Tree":
    """The tree for a terminal: `console.print(render(walk(...)))`. A shared ancestor is shown once, then named."""
    from rich.text import Text
    from rich.tree import Tree

    head = f"{lineage.model}@{lineage.alias}" if lineage.alias else lineage.model
    version = f"version {lineage.version}, " if lineage.version else ""
    top = Tree(Text(head, style="bold").append(f"  {version}arm {lineage.arm}", style="default"))
    _grow(top, lineage.root, set())
    return top


def _grow(tree: "Tree", edge: Edge, seen: set[int]) -> None:
    from rich.text import Text

    def line(on: "Tree", text: str, style: str) -> "Tree":
        return on.add(Text(text, style=style, overflow="fold"))

    branch = line(tree, f"{edge.path}  {edge.md5}", "cyan")
    node = edge.node
    if node is None:
        line(branch, "source: no stage wrote it", "green")
        return
    if id(node) in seen:
        line(branch, f"{node.name}: shown above", "dim")
        return
    seen.add(id(node))
    stage = line(branch, f"{node.name}  commit {_commit(node)}  run {node.run_id or '(none)'}", "bold")
    # a path among the params is an input, which stands below with its md5
    shown = [pair for pair in main_params(node).items() if not pair[1].startswith(("data/", "models/"))]
    if shown:
        more = f", and {len(shown) - SHOWN} more" if len(shown) > SHOWN else ""
        line(stage, ", ".join(f"{key} {value}" for key, value in shown[:SHOWN]) + more, "dim")
    for each in node.inputs:
        _grow(stage, each, seen)
    for path, md5 in list(node.files.items())[:SHOWN]:
        line(stage, f"{path}  {md5}", "green")
    if len(node.files) > SHOWN:
        line(stage, f"and {len(node.files) - SHOWN} source files more (--json has them all)", "green")


def _commit(node: Node) -> str:
    return (node.commit or "(none)") + (" with changes" if node.dirty else "")


def as_dict(lineage: Lineage) -> dict[str, Any]:
    """The tree as plain data for the report: {"name", "stage", "md5", "commit", "run", "params", "inputs": [the same]}.

    `name` is a path, `stage` what wrote it ("" for a source). A stage that was given before has only its run the second
    time, and says so under "note". The top has "model", "version", "alias" and "arm" as well.
    """
    seen: set[int] = set()

    def plain(edge: Edge) -> dict[str, Any]:
        node = edge.node
        row: dict[str, Any] = {"name": edge.path, "stage": node.name if node else "", "md5": edge.md5}
        if node is None:
            return {**row, "note": "a source: no stage wrote it"}
        if id(node) in seen:
            return {**row, "run": node.run_id, "note": "its stage is shown above"}
        seen.add(id(node))
        row |= {"commit": _commit(node), "run": node.run_id, "params": main_params(node)}
        return {**row, "inputs": [plain(each) for each in node.inputs]}

    names = {"model": lineage.model, "version": lineage.version, "alias": lineage.alias, "arm": lineage.arm}
    return {**{key: value for key, value in names.items() if value}, **plain(lineage.root)}
