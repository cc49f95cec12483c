"""The prompt forms that a run uses: one of the two wordings that ship, with the user's own over it."""

import hashlib
import json
from dataclasses import replace
from typing import Any

import yaml

from grandrounds.domain.prompts import WORDINGS, Form
from grandrounds.errors import UserError, unknown
from grandrounds.files import need
from grandrounds.params import Prompts

KEYS = {"instruction": str, "thinking": bool, "prefill": str}


def read(settings: Prompts) -> dict[str, Form]:
    """Every form by name.

    `prompts.file` is YAML, `<form>: {instruction: ..., thinking: ..., prefill: ...}`; what it leaves out stays as it
    ships. Its SHA-256 has to stand in params.yaml, for DVC compares params, not this file: UserError otherwise, and for
    a form, key or type that does not exist.
    """
    shipped = WORDINGS[settings.wording]
    if settings.file is None:
        return dict(shipped)
    path = settings.file
    raw = need(path).read_bytes()
    found = hashlib.sha256(raw).hexdigest()
    if found != settings.sha256:
        raise UserError(
            f"{path}: its SHA-256 is {found}, but params.yaml has prompts.sha256 {settings.sha256 or '(none)'}; put "
            "the new one there, so that DVC reruns what was made with other prompts"
        )
    try:
        given = yaml.safe_load(raw)
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(given, dict):
        raise UserError(f"{path}: expected forms by name, such as {json.dumps({'reasoning': {'instruction': '...'}})}")
    return shipped | {name: _form(f"{path}: {name}", name, body, shipped) for name, body in given.items()}


def _form(where: str, name: Any, body: Any, shipped: dict[str, Form]) -> Form:
    if name not in shipped:
        raise UserError(f"{where}: {unknown('prompt form', str(name), shipped)}")
    if not isinstance(body, dict):
        raise UserError(f"{where}: expected {', '.join(KEYS)}, but {body!r} was given")
    for key, value in body.items():
        if key not in KEYS:
            raise UserError(f"{where}: {unknown('key', str(key), KEYS)}")
        if not isinstance(value, KEYS[key]):
            raise UserError(f"{where}.{key}: expected {KEYS[key].__name__}, but {value!r} was given")
    return replace(shipped[name], **body)
