"""The rules of the house, read from the source: who imports whom, what a stage depends on, how long things may be."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import yaml

from grandrounds.params import ITEMS, STAGES, Params

ROOT = Path(__file__).resolve().parent.parent
CODE = ("grandrounds", "tasks", "flows", "tests", "benchmarks")
NOT_STAGES = {"seed", "compute", "prompts", "benchmarks"}

BASE = {"errors", "params", "records", "references", "files", "runtime"}
SHARED = {
    "asking",
    "encoding",
    "decoding",
    "forms",
    "lora",
    "models",
    "recipes",
    "search",
    "shards",
}  # between domain and the packages: what several need
SIBLINGS = {"sources", "engines", "training", "tracking", "reporting"}
TOP = {
    "ablations",
    "checking",
    "cli",
    "commands",
    "comparing",
    "delivery",
    "doctor",
    "examining",
    "fitting",
    "merger",
    "__main__",
}  # the command line and what only it uses
# What a change of cannot change a stage's bytes, or must not retrain a model:
NEVER_DEPS = BASE | {"tracking", "reporting", "__init__"}
# domain/ is pure: no files, network, environment, clock, models
IMPURE = {"os", "io", "pathlib", "shutil", "tempfile", "subprocess", "socket", "urllib", "http", "requests", "httpx"}
IMPURE |= {"time", "datetime", "logging", "yaml", "pyarrow", "mlflow", "dvc", "prefect", "openai", "matplotlib"}
IMPURE |= {"transformers", "peft", "trl", "accelerate", "datasets"}


def modules(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def short(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def imports(path: Path, types_too: bool = True) -> frozenset[str]:
    """Dotted names that a module imports, wherever in it; `from a import b` gives `a.b` when that is a module."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            typing_only |= {id(each) for body in node.body for each in ast.walk(body)}
    found: set[str] = set()
    for node in ast.walk(tree):
        if not types_too and id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if file_of(whole) else node.module)
    return frozenset(found)


def file_of(dotted: str) -> Path | None:
    """The file of one of our modules, or None for anything else."""
    path = ROOT.joinpath(*dotted.split("."))
    if path.with_suffix(".py").is_file():
        return path.with_suffix(".py")
    return path / "__init__.py" if (path / "__init__.py").is_file() else None


def layer(name: str) -> tuple[int, str]:
    """(height, package) of a dotted name of ours: a module may import lower ones, and its own package."""
    first, _, rest = name.partition(".")
    part = rest.partition(".")[0]
    if first in ("tasks", "flows"):
        return {"tasks": 4, "flows": 5}[first], first
    if part in TOP:
        return 6, "top"
    if part in SIBLINGS:
        return 3, part
    if part in SHARED:
        return 2, "shared"
    if part == "domain":
        return 1, part
    assert part in BASE or not part, f"{name}: in no layer; tests/test_structure.py has to know it"
    return 0, "base"


def dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("path", modules("grandrounds", "tasks", "flows"), ids=short)
def test_imports_only_what_is_below(path: Path) -> None:
    own, package = layer(dotted(path))
    for name in sorted(imports(path)):
        if name.split(".")[0] not in ("grandrounds", "tasks", "flows"):
            continue
        height, other = layer(name)
        assert height < own or other == package, f"{short(path)} imports {name}, which is not below it"


@pytest.mark.parametrize("path", modules("grandrounds/domain"), ids=short)
def test_domain_is_pure(path: Path) -> None:
    impure = {name for name in imports(path) if name.split(".")[0] in IMPURE}
    impure |= imports(path) & {"grandrounds.files", "grandrounds.runtime"}
    calls = [node.func.id for node in ast.walk(ast.parse(path.read_text())) if _called_by_name(node)]
    assert not impure | ({"open", "print", "input"} & set(calls)), f"{short(path)} is not pure"


def _called_by_name(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name)


def pipeline() -> dict[str, dict]:
    """The stages of dvc.yaml; one with `foreach` by the body that all its items share."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    return {name: body.get("do", body) for name, body in stages.items()}


def test_stages_tasks_and_sections_are_the_same() -> None:
    tasks = {path.stem for path in modules("tasks")} - {"__init__"}
    sections = set(Params.model_fields) - NOT_STAGES
    given = set(yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))) - NOT_STAGES
    assert set(pipeline()) == tasks == sections == given == set(STAGES)


def test_foreach_stages_are_those_with_items() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    found = {name: body["foreach"] for name, body in stages.items() if "foreach" in body}
    assert found == {name: f"${{{name}.{key}}}" for name, key in ITEMS.items()}


@pytest.mark.parametrize("stage", STAGES)
def test_stage_runs_its_own_task(stage: str) -> None:
    body = pipeline()[stage]
    assert body["cmd"].split()[:3] == ["python", "-m", f"tasks.{stage}"]
    assert f"tasks/{stage}.py" in body["deps"]


def needed(stage: str) -> set[str]:
    """Files of ours that a task imports, directly or not, without those that must not retrain anything."""
    found: set[str] = set()
    todo = [ROOT / "tasks" / f"{stage}.py"]
    while todo:
        for name in imports(todo.pop(), types_too=False):
            file = file_of(name) if name.startswith("grandrounds") else None
            if file is None or short(file) in found or set(file.with_suffix("").parts[-2:]) & NEVER_DEPS:
                continue
            found.add(short(file))
            todo.append(file)
    return found


def listed(stage: str) -> set[str]:
    """The code among a stage's deps: files, and folders of them."""
    return {str(dep) for dep in pipeline()[stage]["deps"] if str(dep).startswith("grandrounds")}


def covers(dep: str, file: str) -> bool:
    return file == dep or file.startswith(dep + "/")


@pytest.mark.parametrize("stage", STAGES)
def test_every_import_that_changes_bytes_is_a_dep(stage: str) -> None:
    missing = sorted(file for file in needed(stage) if not any(covers(dep, file) for dep in listed(stage)))
    assert not missing, f"dvc.yaml: {stage}: deps lacks {missing}, which tasks/{stage}.py imports"


@pytest.mark.parametrize("stage", STAGES)
def test_no_dep_that_cannot_change_bytes(stage: str) -> None:
    idle = sorted(dep for dep in listed(stage) if not any(covers(dep, file) for file in needed(stage)))
    assert not idle, f"dvc.yaml: {stage}: deps has {idle}, which tasks/{stage}.py does not import"


@pytest.mark.parametrize("path", modules(*CODE), ids=short)
def test_no_module_and_no_function_is_too_long(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 400, f"{short(path)} has {text.count(chr(10))} lines; 400 are allowed"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            assert lines <= 60, f"{short(path)}: {node.name} has {lines} lines; 60 are allowed"


def written_by_hand() -> Iterator[Path]:
    kinds = {".py", ".yaml", ".yml", ".toml", ".txt", ".md", ".html", ".css", ".j2", ""}
    for name in (*CODE, "recipes", "docs", ".ci"):
        yield from (path for path in (ROOT / name).rglob("*") if path.is_file() and path.suffix in kinds)
    yield from (path for path in ROOT.iterdir() if path.is_file() and path.suffix in kinds)


def test_no_file_names_a_machine() -> None:
    machine = re.compile(r"(?<![\w.<{}$-])/(?:work|root|opt|home/(?!someone)\w+|Users/\w+|etc/ssl)/|file:///\w")
    here = Path(__file__)
    for path in written_by_hand():
        if path == here or "__pycache__" in path.parts or path.suffix == ".lock":
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            assert not machine.search(line), f"{short(path)}:{number} names a path of one machine: {line.strip()[:100]}"


def test_constraints_are_exact_pins() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!+_-]+", line) for line in lines)
    assert {"torch==2.14.1", "torchvision==0.29.1"} <= set(lines)
    assert not any(line.lower().startswith("grandrounds") for line in lines)
