"""What would run, in what order, and why: dvc.yaml and dvc.lock read through DVC itself.

:func:`read` asks DVC for the graph and for what changed; :func:`decide` and the functions after it are pure.
"""

import os
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from grandrounds.errors import UserError, unknown
from grandrounds.params import load

Graph = Mapping[str, Collection[str]]  # stage -> the stages that it needs directly

NEVER_RUN = "never run"
UPSTREAM = "upstream runs"
FORCED = "forced"
GUESS = 30.0  # seconds that a stage takes while no run.json says better
LOCK_PATIENCE = 60.0  # seconds to wait for another DVC process


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that DVC finds changed in a stage."""

    kind: Literal["params", "dep", "output", "command", "always", "new"]
    what: str  # the parameter's key or the file's path
    state: str  # DVC's word: "modified", "deleted", "new", "not in cache"


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage as DVC sees it."""

    name: str  # "adapt@pediatrics"
    upstream: tuple[str, ...]
    outs: tuple[str, ...]
    changes: tuple[Change, ...]
    seconds: float  # of its last run


@dataclass(frozen=True, slots=True)
class Planned:
    """What the plan says of one stage."""

    name: str
    wave: int  # 0: needs no other stage
    upstream: tuple[str, ...]
    action: Literal["hit", "run"]
    reason: str
    seconds: float


def make(targets: Iterable[str] = (), *, force: bool = False, root: str | Path = ".") -> list[Planned]:
    """Check params.yaml, ask DVC, decide. `targets` as in :func:`select`; none means every stage."""
    load(Path(root) / "params.yaml")
    return decide(select(read(root), targets), force=force)


def read(root: str | Path = ".") -> list[Stage]:
    """Every stage of the DVC project at `root`, with what DVC finds changed, in topological order."""
    from dvc.exceptions import DvcException
    from dvc.lock import LockError
    from dvc.repo import Repo

    waited = time.monotonic()
    while True:
        try:
            with Repo(str(root), _wait_for_lock=True) as repo, repo.lock:
                return _stages(repo)
        except LockError as error:  # a stage that is being run elsewhere holds its files
            if time.monotonic() - waited > LOCK_PATIENCE:
                raise UserError(
                    f"DVC is at work in this project: wait, or end that process ({_one_line(error)})"
                ) from None
            time.sleep(1)
        except DvcException as error:
            raise UserError(f"dvc.yaml: {_one_line(error)}") from None


def _stages(repo: Any) -> list[Stage]:
    import networkx as nx
    from dvc.utils.serialize import load_yaml

    lock = Path(repo.root_dir) / "dvc.lock"
    locked = (load_yaml(str(lock)) or {}).get("stages", {}) if lock.exists() else {}
    graph = repo.index.graph
    stages = []
    for stage in reversed(list(nx.topological_sort(graph))):  # DVC's edges point upstream
        status = [_rebased(entry, repo.root_dir) for entry in stage.status().get(stage.addressing, [])]
        outs = tuple(_relative(out.fs_path, repo.root_dir) for out in stage.outs)
        stages.append(
            Stage(
                name=_name(stage),
                upstream=tuple(sorted(_name(other) for other in graph.successors(stage))),
                outs=outs,
                changes=changes(status) if _name(stage) in locked else (Change("new", _name(stage), "new"),),
                seconds=_seconds(Path(repo.root_dir), outs),
            )
        )
    return stages


def _name(stage: Any) -> str:
    """As in dvc.yaml. DVC's own address has the file's path in front when we are in another folder."""
    return str(getattr(stage, "name", None) or stage.addressing)


def _rebased(entry: Any, root: str) -> Any:
    """An entry of DVC's status with paths from the project folder; DVC gives them from the working folder."""
    if isinstance(entry, str):
        return entry
    return {kind: {_relative(path, root): state for path, state in paths.items()} for kind, paths in entry.items()}


def _relative(path: str, root: str) -> str:
    absolute = Path(os.path.abspath(path))
    return absolute.relative_to(root).as_posix() if absolute.is_relative_to(root) else str(path)


def _seconds(root: Path, outs: Iterable[str]) -> float:
    """How long the stage took when its run.json was written; a guess where there is none."""
    import json

    for out in outs:
        if out.endswith("/run.json") and (root / out).is_file():
            try:
                return float(json.loads((root / out).read_text(encoding="utf-8"))["seconds"])
            except (ValueError, KeyError, TypeError):
                return GUESS
    return GUESS


def _one_line(error: BaseException) -> str:
    """An exception and its causes, each once, on one line: DVC puts the telling part in the cause."""
    texts: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        text = " ".join(str(cause).split())
        if text and text not in texts:
            texts.append(text)
        cause = cause.__cause__
    return ": ".join(texts)


# ------------------------------------------------------------------------------------------------ pure from here


def changes(status: Iterable[Any]) -> tuple[Change, ...]:
    """DVC's status of one stage as changes.

    DVC gives a list such as `[{"changed deps": {"a.txt": "modified", "params.yaml": {"seed": "modified"}}},
    {"changed outs": {"b.txt": "deleted"}}, "changed command", "always changed"]`.
    """
    found: list[Change] = []
    for entry in status:
        if isinstance(entry, str):
            found.append(Change("command" if "command" in entry else "always", "", "modified"))
            continue
        for path, state in entry.get("changed deps", {}).items():
            if isinstance(state, Mapping):
                found.extend(Change("params", key, word) for key, word in state.items())
            else:
                found.append(Change("dep", path, state))
        found.extend(Change("output", path, state) for path, state in entry.get("changed outs", {}).items())
    return tuple(found)


def reason(stage: Stage, remade: Collection[str], most: int = 2) -> str:
    """Why the stage itself has to run, or "" when nothing of its own changed.

    `remade` are the outputs of upstream stages that run: what DVC says of those files now is of no interest.
    """
    told = []
    for change in stage.changes:
        if change.kind == "new":
            return NEVER_RUN
        if change.kind == "dep" and any(_within(change.what, out) or _within(out, change.what) for out in remade):
            continue
        told.append(_tell(change))
    more = f" and {len(told) - most} more" if len(told) > most else ""
    return "; ".join(told[:most]) + more


def _tell(change: Change) -> str:
    if change.kind == "params":
        return f"params {'changed' if change.state == 'modified' else change.state}: {change.what}"
    if change.kind == "dep":
        return f"dep {'missing' if change.state == 'deleted' else 'changed'}: {change.what}"
    if change.kind == "output":
        return f"output {'missing' if change.state in ('deleted', 'not in cache') else 'changed'}: {change.what}"
    return "command changed" if change.kind == "command" else "always runs"


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + "/")


def decide(stages: Iterable[Stage], *, force: bool = False) -> list[Planned]:
    """Hit or run for each stage, by wave and then by name. A stage downstream of one that runs runs too,
    as far as can be known now: when the upstream's output comes out the same, DVC will skip it.
    """
    by_name = {stage.name: stage for stage in stages}
    wave_of = waves({name: stage.upstream for name, stage in by_name.items()})
    planned: dict[str, Planned] = {}
    for name in sorted(by_name, key=lambda name: (wave_of[name], name)):
        stage = by_name[name]
        running = [up for up in stage.upstream if planned[up].action == "run"]
        own = reason(stage, [out for up in running for out in by_name[up].outs])
        why = FORCED if force else own or (f"{UPSTREAM}: {', '.join(running)}" if running else "")
        planned[name] = Planned(
            name, wave_of[name], stage.upstream, "run" if why else "hit", why or "unchanged", stage.seconds
        )
    return list(planned.values())


def waves(graph: Graph) -> dict[str, int]:
    """The topological level of each stage: 0 needs nothing, n needs a stage of level n - 1."""
    levels: dict[str, int] = {}

    def level(name: str) -> int:
        if name not in levels:
            levels[name] = 1 + max((level(up) for up in graph[name]), default=-1)
        return levels[name]

    for name in graph:
        level(name)
    return levels


def ancestors(graph: Graph, name: str) -> set[str]:
    """Every stage that `name` needs, directly or not."""
    found: set[str] = set()
    todo = list(graph[name])
    while todo:
        up = todo.pop()
        if up not in found:
            found.add(up)
            todo.extend(graph[up])
    return found


def select(stages: Iterable[Stage], targets: Iterable[str] = ()) -> list[Stage]:
    """The targets and all they need. A target is a stage, or the common name of a foreach: "adapt"."""
    stages = list(stages)
    graph = {stage.name: stage.upstream for stage in stages}
    wanted: set[str] = set()
    for target in targets:
        hits = [name for name in graph if name == target or name.split("@")[0] == target]
        if not hits:
            raise unknown("stage", target, graph if "@" in target else {name.split("@")[0] for name in graph})
        for name in hits:
            wanted |= {name} | ancestors(graph, name)
    return [stage for stage in stages if stage.name in wanted] if wanted else stages


def ranks(graph: Graph, seconds: Mapping[str, float]) -> dict[str, float]:
    """Seconds from the start of each stage to the end of the longest chain after it.

    Ready stages start in falling rank, so that the critical path is never kept waiting by a short branch
    (HEFT's upward rank, Topcuoglu et al. 2002, without the transfer costs).
    """
    downstream: dict[str, list[str]] = {name: [] for name in graph}
    for name, ups in graph.items():
        for up in ups:
            downstream[up].append(name)
    found: dict[str, float] = {}
    for name, _ in sorted(waves(graph).items(), key=lambda pair: -pair[1]):
        found[name] = seconds[name] + max((found[down] for down in downstream[name]), default=0.0)
    return found


def alone(graph: Graph, running: Collection[str]) -> set[str]:
    """The stages of `running` beside which no other of them could run: each other is needed by it, or needs it.

    Such a stage may have every core.
    """
    before = {name: ancestors(graph, name) for name in running}
    return {
        name
        for name in running
        if all(other == name or other in before[name] or name in before[other] for other in running)
    }
