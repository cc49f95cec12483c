"""The flows' parameters as types: what the Prefect UI's form shows, and what the server checks before a run starts.

The choices are read from the project folder when the flow is loaded, so a deployment offers what was there when it was
deployed. The flow checks again by itself: a schedule may outlive the stage that it names. Prefect takes what the form
says of each parameter from `Args:` in the flow's docstring, and from nowhere else.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field

from grandrounds import recipes
from grandrounds.params import root
from grandrounds.tracking.experiments import look_up


def stage_names(folder: Path) -> list[str]:
    """Every name that `dvc repro` takes: stages, and each item of those with `foreach`. Empty where dvc.yaml is not."""
    try:
        stages = yaml.safe_load((folder / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
        params = yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return []
    return [name for stage, body in stages.items() for name in (stage, *_items(stage, body, params))]


def _items(stage: str, body: dict[str, Any], params: Any) -> Iterator[str]:
    named = re.fullmatch(r"\$\{([\w.]+)\}", str(body.get("foreach", "")))
    if named and isinstance(items := look_up(params, named[1])[1], dict):
        yield from (f"{stage}@{key}" for key in items)


def _choice(names: list[str]) -> dict[str, Any] | None:
    return {"enum": names} if names else None


Stages = tuple[Annotated[str, Field(json_schema_extra=_choice(stage_names(root())))], ...]
Workers = Annotated[int, Field(ge=1, le=64)]
Recipe = Annotated[str, Field(json_schema_extra=_choice(recipes.names()))]
Experiment = Annotated[str, Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9_-]*)?$", max_length=80)]
