"""Which stage of how many: dvc.yaml's `foreach` expanded over params.yaml, without importing dvc."""

import re
from pathlib import Path
from typing import Any

import yaml


def position(stage: str, item: str | None, root: str | Path = ".") -> tuple[int, int] | None:
    """(7, 33) for the seventh of 33 stages in the order in which they can run; None where dvc.yaml lacks the stage."""
    names = order(root)
    name = f"{stage}@{item}" if item else stage
    return (names.index(name) + 1, len(names)) if name in names else None


def order(root: str | Path = ".") -> list[str]:
    """All stages, each behind those whose outputs it reads, otherwise as in dvc.yaml."""
    stages = expand(root)
    made = {path: name for name, body in stages.items() for path in _paths(body, ("outs", "metrics", "plots"))}
    after = {
        name: {maker for dep in _paths(body, ("deps",)) for path, maker in made.items() if _touches(dep, path)} - {name}
        for name, body in stages.items()
    }
    done: list[str] = []
    while len(done) < len(stages):
        ready = [name for name in stages if name not in done and after[name] <= set(done)]
        if not ready:  # a cycle: DVC says so better than we can
            return list(stages)
        done.append(ready[0])
    return done


def expand(root: str | Path = ".") -> dict[str, dict[str, Any]]:
    """Every stage of dvc.yaml under DVC's own name for it (`adapt@pediatrics`), its templates filled in."""
    try:
        pipeline = _load(Path(root) / "dvc.yaml")
        params = _load(Path(root) / "params.yaml")
    except (OSError, yaml.YAMLError):
        return {}
    stages: dict[str, dict[str, Any]] = {}
    for name, body in (pipeline.get("stages") or {}).items():
        if "foreach" not in body:
            stages[name] = _fill(body, params)
            continue
        items = _fill(body["foreach"], params)
        pairs = items.items() if isinstance(items, dict) else [(each, each) for each in items]
        for key, item in pairs:
            stages[f"{name}@{key}"] = _fill(body["do"], {**params, "key": key, "item": item})
    return stages


def _load(path: Path) -> dict[str, Any]:
    return yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)) or {}


def _fill(value: Any, context: dict[str, Any]) -> Any:
    if isinstance(value, dict):
        return {_fill(key, context): _fill(each, context) for key, each in value.items()}
    if isinstance(value, list):
        return [_fill(each, context) for each in value]
    if not isinstance(value, str):
        return value
    whole = re.fullmatch(r"\$\{([^}]+)\}", value)
    if whole:  # a template alone may stand for a list or a mapping
        return _look_up(whole[1], context)
    return re.sub(r"\$\{([^}]+)\}", lambda match: str(_look_up(match[1], context)), value)


def _look_up(dotted: str, context: dict[str, Any]) -> Any:
    node: Any = context
    for part in dotted.strip().split("."):
        node = node.get(part, "") if isinstance(node, dict) else ""
    return node


def _paths(body: dict[str, Any], keys: tuple[str, ...]) -> list[str]:
    rows = [row for key in keys for row in body.get(key) or []]
    return [str(next(iter(row)) if isinstance(row, dict) else row).rstrip("/") for row in rows]


def _touches(dep: str, out: str) -> bool:
    return dep == out or dep.startswith(out + "/") or out.startswith(dep + "/")
