"""Reading params.yaml: a wrong key, type, range or name is one line that says what is allowed."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import ValidationError

from grandrounds import references
from grandrounds.errors import UserError, unknown
from grandrounds.params.whole import Params


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
    absent = keys[-1:] if error["type"] == "missing" else []
    key = ".".join([*_in_file(keys[: len(keys) - len(absent)], raw), *absent]) or "(top level)"
    if error["type"] == "extra_forbidden":
        return f"{key}: {unknown('key', keys[-1], _siblings(keys))}"
    if error["type"] == "missing":
        return f"{key}: is required and not there"
    given = error.get("input")
    message = error["msg"].removeprefix("Value error, ")
    return f"{key}: {message[0].lower()}{message[1:]}, but {given!r} was given"


def _in_file(keys: list[str], raw: Any) -> Iterator[str]:
    """The path without the tags of unions and of dict keys, which are pydantic's and not the file's."""
    node = raw
    for part in keys:
        if (isinstance(node, dict) and part not in node) or part.endswith("]"):
            continue
        yield part
        node = node.get(part) if isinstance(node, dict) else None


def _siblings(keys: list[str]) -> list[str]:
    """The keys that the model allows where `keys` points."""
    model: Any = Params
    for part in keys[:-1]:
        fields = getattr(model, "model_fields", {})
        if part in fields:
            model = fields[part].annotation
        elif get_origin(model) is dict:
            model = get_args(model)[1]
        else:
            model = next((choice for choice in _flat([model]) if part in _tags(choice)), model)
    return list(getattr(_flat([model])[-1], "model_fields", {}))


def _flat(choices: list[Any]) -> list[Any]:
    out: list[Any] = []
    for choice in choices:
        inner = get_args(choice)
        out.extend(_flat(list(inner)) if inner else [choice])
    return out


def _tags(model: Any) -> tuple[str, ...]:
    """What `type` may say to choose this class of a union."""
    field = getattr(model, "model_fields", {}).get("type")
    return get_args(field.annotation) if field else ()
