"""The stage graph that params.yaml describes: which step reads what which step wrote."""

from dataclasses import dataclass
from pathlib import Path

from grandrounds.params import Params


@dataclass(frozen=True)
class Step:
    """One stage, or one item of a stage. `inputs` are keys of other steps: `curate`, `adapt@pediatrics`."""

    stage: str
    item: str
    inputs: tuple[str, ...]

    @property
    def key(self) -> str:
        return f"{self.stage}@{self.item}" if self.item else self.stage

    @property
    def report(self) -> str:
        """The step's folder under reports/."""
        return f"{self.stage}/{self.item}" if self.item else self.stage


_FOLDERS = {"data/filtered": "filter", "models/adapters": "adapt", "models/merged": "merge", "models/policies": "grpo"}


def producer(path: str | Path) -> str:
    """The step that writes a path of the pipeline; `` for one that is not the pipeline's."""
    path = Path(path)
    if str(path) in ("models/base", "models/teacher"):
        return "base"
    if str(path) == "data/traces.parquet":
        return "distill"
    if path.is_relative_to("data/curated"):
        return "curate"
    stage = _FOLDERS.get(str(path.parent), "")
    return f"{stage}@{path.stem}" if stage else ""


def steps(params: Params, twins: bool = True) -> dict[str, Step]:
    """Every step by its key, in pipeline order. Without `twins` a merge reads only what goes into the model."""
    found = [Step("curate", "", ()), Step("base", "", ("curate",))]
    filters = [Step("filter", name, _inputs("curate", producer(params.filter.model))) for name in params.filter.items]
    found += filters
    found.append(Step("distill", "", _inputs("curate", *(step.key for step in filters), "base")))
    found += [Step("adapt", name, ("distill", "base")) for name in params.adapt.items]
    for name, merge in params.merge.items.items():
        beside = [merge.beside.path] if twins or merge.beside.role == "update" else []
        paths = [*merge.updates.values(), *beside]
        found.append(Step("merge", name, _inputs(*map(producer, paths))))
    for name, item in params.grpo.items.items():
        found.append(Step("grpo", name, _inputs("curate", producer(item.questions), "base", producer(item.init))))
    for name, arm in params.predict.arms.items():
        found.append(Step("predict", name, _inputs("curate", "base", producer(arm.adapter))))
    found.append(Step("judge", "", _inputs("curate", *(f"predict@{name}" for name in params.predict.arms))))
    found.append(Step("publish", "", ("judge",)))
    known = {step.key for step in found}
    return {step.key: Step(step.stage, step.item, tuple(k for k in step.inputs if k in known)) for step in found}


def ancestors(graph: dict[str, Step], key: str) -> set[str]:
    """All steps that `key` stands on, itself not included."""
    seen: set[str] = set()
    waiting = list(graph[key].inputs) if key in graph else []
    while waiting:
        each = waiting.pop()
        if each not in seen:
            seen.add(each)
            waiting += graph[each].inputs
    return seen


def chain(params: Params, path: str | Path) -> list[Step]:
    """The steps that make the model at `path`, from the source data up, in an order that could be run."""
    graph = steps(params, twins=False)
    target = producer(path)
    wanted = ancestors(graph, target) | {target}
    done: list[Step] = []

    def visit(key: str, above: frozenset[str]) -> None:
        step = graph.get(key)
        if step is None or step in done or key in above:
            return
        for each in step.inputs:
            visit(each, above | {key})
        done.append(step)

    for key in graph:
        if key in wanted:
            visit(key, frozenset())
    return done


def reinforced(params: Params, arm: str) -> str:
    """How reinforcement learning stands in an arm: `base` (from base), `adapted` (after SFT), or `` (none)."""
    made = chain(params, params.predict.arms[arm].adapter)
    if not any(step.stage == "grpo" for step in made):
        return ""
    return "adapted" if any(step.stage == "adapt" for step in made) else "base"


def drawn(params: Params) -> tuple[dict[str, Step], list[tuple[str, str]]]:
    """The graph as it is drawn: all `predict` items as one node, and no edge that a longer path implies."""
    full = steps(params)
    predict = "predict"
    nodes: dict[str, Step] = {}
    for step in full.values():
        inputs = tuple(dict.fromkeys(predict if key.startswith("predict@") else key for key in step.inputs))
        if step.stage == predict:
            earlier = nodes.get(predict, Step(predict, "", ())).inputs
            nodes[predict] = Step(predict, "", tuple(dict.fromkeys(earlier + inputs)))
        else:
            nodes[step.key] = Step(step.stage, step.item, inputs)
    edges = []
    for key, step in nodes.items():
        implied = set().union(*(ancestors(nodes, each) for each in step.inputs)) if step.inputs else set()
        edges += [(each, key) for each in step.inputs if each not in implied]
    return nodes, edges


def _inputs(*keys: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(key for key in keys if key))
