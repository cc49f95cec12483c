"""Recipes: whole params.yaml files under recipes/, one for each published setting or machine."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from grandrounds.errors import UserError, unknown
from grandrounds.files import replacing
from grandrounds.params import check

FOLDER = Path("recipes")
PARAMS = Path("params.yaml")
ABSENT = "(not there)"


@dataclass(frozen=True)
class Recipe:
    name: str
    path: Path
    about: str  # its first comment line
    problem: str  # why it is not valid, or ""
    current: bool  # params.yaml says the same


def names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def find(name: str) -> Path:
    """The file of a recipe; UserError with the nearest name for one that is not there."""
    if name not in names():
        raise unknown("recipe", name, names())
    return FOLDER / f"{name}.yaml"


def read(path: Path) -> Any:
    """A recipe or params.yaml as plain values; UserError when it is not there or not YAML."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: not found; take a recipe with `grandrounds recipe use NAME`") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not YAML: {' '.join(str(error).split())}") from None


def listing() -> list[Recipe]:
    """Every recipe, each checked, and compared with params.yaml by value: comments and layout do not count."""
    current = read(PARAMS) if PARAMS.is_file() else None
    found = []
    for name in names():
        path = find(name)
        problem, values = "", None
        try:
            values = read(path)
            check(values, str(path))
        except UserError as error:
            problem = str(error)
        found.append(Recipe(name, path, _about(path), problem, values is not None and values == current))
    return found


def use(name: str) -> Path | None:
    """Make params.yaml a copy of a recipe. One that someone edited is kept as params.yaml.bak, whose path is returned.

    The recipe is checked first; params.yaml is replaced whole or not at all.
    """
    path = find(name)
    check(read(path), str(path))
    backup = None
    if PARAMS.is_file() and _edited():
        backup = PARAMS.with_name(PARAMS.name + ".bak")
        with replacing(backup) as temporary:
            shutil.copyfile(PARAMS, temporary)
    with replacing(PARAMS) as temporary:
        shutil.copyfile(path, temporary)
    return backup


def overrides(name: str) -> dict[str, Any]:
    """What makes params.yaml say the same as a recipe: each section that differs, whole; None for one to be removed.

    The recipe is checked first. For :func:`grandrounds.tracking.experiments.settings`.
    """
    path = find(name)
    wanted, current = read(path), read(PARAMS)
    check(wanted, str(path))
    differing = {key: value for key, value in wanted.items() if key not in current or current[key] != value}
    return differing | {key: None for key in current if key not in wanted}


def _edited() -> bool:
    """Whether params.yaml differs, as bytes, from every recipe: comments are worth keeping too."""
    current = PARAMS.read_bytes()
    return all(find(name).read_bytes() != current for name in names())


def difference(first: Path, second: Path) -> list[tuple[str, str, str]]:
    """(key, value in first, value in second) for each key on which two files differ, in the files' own order."""
    left, right = dict(_flat(read(first))), dict(_flat(read(second)))
    keys = [*left, *(key for key in right if key not in left)]
    rows = [(key, left.get(key, ABSENT), right.get(key, ABSENT)) for key in keys]
    return [(key, str(one), str(other)) for key, one, other in rows if one != other]


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, each in value.items():
            yield from _flat(each, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, value


def _about(path: Path) -> str:
    first = path.read_text(encoding="utf-8", errors="replace").split("\n", 1)[0]
    return first.lstrip("# ").strip() if first.startswith("#") else ""
