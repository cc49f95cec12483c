"""Reading params.yaml: a wrong key, type, range or name is one line that says what is allowed."""

import os
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from grandrounds import references
from grandrounds.errors import UserError, unknown
from grandrounds.params.stages import Params


def root() -> Path:
    """The project folder that the stage works in: the nearest one upwards with a params.yaml, else here."""
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / "params.yaml").is_file()), here)


def load(path: str | Path = "params.yaml") -> Params:
    """Read and check params.yaml. Every mistake is reported in one line: key, what was given, what is allowed."""
    path = Path(path)
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: not found; run from the project folder ({os.getcwd()} is not it)") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    return check(raw, str(path))


def check(raw: Any, where: str = "params.yaml") -> Params:
    if not isinstance(raw, dict):
        raise UserError(f"{where}: expected a mapping with the sections {', '.join(Params.model_fields)}")
    try:
        params = Params.model_validate(raw)
    except ValidationError as error:
        problems = sorted(error.errors(), key=lambda each: each["type"] == "missing")  # a mistyped key first
        raise UserError(f"{where}: " + "; ".join(_line(each, raw) for each in problems[:5])) from None
    references.check(params, where)
    return params


def _line(error: Any, raw: Any) -> str:
    """One pydantic error as `key: what is wrong, given what`."""
    keys = [str(part) for part in error["loc"]]
    key = ".".join(part for part in keys if not part.endswith("]")) or "(top level)"
    if error["type"] == "extra_forbidden":
        # the union tag is part of pydantic's path but not of the file's
        return f"{key}: {unknown('key', keys[-1], _siblings(keys, raw))}"
    if error["type"] == "missing":
        return f"{key}: is required and not there"
    given = error.get("input")
    message = error["msg"][0].lower() + error["msg"][1:]
    return f"{key}: {message}, but {given!r} was given"


def _siblings(keys: list[str], raw: Any) -> list[str]:
    """The keys that the model allows where `keys` points."""
    model: Any = Params
    node = raw
    for part in keys[:-1]:
        fields = getattr(model, "model_fields", None)
        if fields and part in fields:
            model, node = fields[part].annotation, node.get(part) if isinstance(node, dict) else None
        else:  # a name in a dict of items, or the tag of a union
            choices = [c for c in getattr(model, "__args__", ()) if isinstance(c, type) or hasattr(c, "__metadata__")]
            tagged = [c for c in _flat(choices or [model]) if _tag(c) == part]
            model = tagged[0] if tagged else (_flat(choices)[-1] if choices else model)
    model = _flat([model])[-1]
    return list(getattr(model, "model_fields", {}))


def _flat(choices: list[Any]) -> list[Any]:
    out: list[Any] = []
    for choice in choices:
        inner = (
            getattr(choice, "__args__", None) if not isinstance(choice, type) or hasattr(choice, "__origin__") else None
        )
        out.extend(_flat(list(inner)) if inner else [choice])
    return out


def _tag(model: Any) -> str | None:
    field = getattr(model, "model_fields", {}).get("type")
    return getattr(field.annotation, "__args__", (None,))[0] if field else None
