"""`grandrounds merge`: PEFT LoRA adapters of one base merged into an adapter, or into the base's weights."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import TypeAdapter, ValidationError

from grandrounds import files
from grandrounds.domain.adapters import LoraUpdate, all_modules
from grandrounds.domain.conflicts import compare_all, hardest
from grandrounds.domain.merging.merge import append, check, merge, merge_exactly
from grandrounds.domain.merging.methods import METHODS
from grandrounds.errors import UserError, unknown
from grandrounds.lora import WEIGHTS, Adapter, one_base, read_adapter, write_update
from grandrounds.params import Linear, MergeMethod, MergeRule
from grandrounds.records import Conflict, MergeReport
from grandrounds.shards import fold_into

if TYPE_CHECKING:
    from torch import Tensor

Kind = Literal["lora", "cat", "full"]


@dataclass(frozen=True, slots=True)
class Job:
    adapters: Mapping[str, Path]
    method: MergeMethod
    weights: Mapping[str, float]
    rules: Sequence[MergeRule] = ()
    kind: Kind = "lora"
    rank: int | None = None
    energy: float | None = None
    base: Path | None = None  # folder of the base model, for kind "full"
    workers: int = 1


@dataclass(frozen=True, slots=True)
class Done:
    modules: int
    rank: int | None  # of the LoRA; None for whole weights
    largest_error: float  # of any module's cut to that rank
    fight: str  # which two adapters fight, where


def described(kind: str, values: Mapping[str, Any]) -> MergeMethod:
    """A method by name with its settings. UserError, with what is valid, for a wrong name, key or value."""
    if kind not in METHODS:
        raise unknown("merge method", kind, METHODS)
    try:
        return TypeAdapter(MergeMethod).validate_python({"type": kind, **values})
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"--method {kind}: {first['loc'][-1]}: {first['msg']}") from None


def rule(text: str) -> MergeRule:
    """A rule as JSON, as in params.yaml."""
    try:
        return MergeRule.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"--rule {text}: {'.'.join(map(str, first['loc']))} {first['msg']}") from None


def run(job: Job, out: Path) -> Done:
    """Do the job and write `out`, whole or not at all: the model, conflicts.parquet, merge.parquet and README.md."""
    if len(job.adapters) < 2:
        raise UserError("merge: at least two adapters are wanted: --adapter name=FOLDER, repeatable")
    if out.exists():
        raise UserError(f"{out}: exists; name a folder that does not, or remove it first")
    if job.kind == "full" and job.base is None:
        raise UserError("merge: into whole weights the base model is wanted: --base FOLDER")
    if job.kind == "cat" and (job.method.type != "linear" or job.rank or job.energy):
        raise UserError("merge: `cat` is the exact sum: it goes with --method linear, and with neither rank nor energy")
    read = {name: read_adapter(path) for name, path in job.adapters.items()}
    base = one_base(read)
    updates = {name: each.update for name, each in read.items()}
    check(updates, job.weights, job.rules)
    conflicts = compare_all(updates)
    with files.replacing(out) as folder:
        folder.mkdir()
        update, report = _model(job, updates, folder, base)
        files.write(folder / "conflicts.parquet", conflicts, Conflict)
        files.write(folder / "merge.parquet", report, MergeReport)
        errors = [row.truncation_error for row in report]
        rank = update.rank if update else None
        done = Done(len(all_modules(updates)), rank, max(errors, default=0.0), hardest(conflicts))
        (folder / "README.md").write_text(card(job, read, base, done), encoding="utf-8")
    return done


def _model(
    job: Job, updates: Mapping[str, LoraUpdate], folder: Path, base: str
) -> tuple[LoraUpdate | None, list[MergeReport]]:
    if job.kind == "full":

        def exact(module: str) -> "Tensor":
            return merge_exactly(module, updates, job.weights, job.method, job.rules)

        fold_into(job.base or base, folder, all_modules(updates), exact)
        return None, []
    if job.kind == "cat" and isinstance(job.method, Linear):
        appended = append(updates, job.weights, job.method, job.rules)
        write_update(folder, appended, base)
        return appended, []
    found = merge(updates, job.weights, job.method, job.rank, energy=job.energy, rules=job.rules, workers=job.workers)
    write_update(folder, found.update, base)
    return found.update, found.report


def card(job: Job, adapters: Mapping[str, Adapter], base: str, done: Done) -> str:
    """The model card of a merge: Markdown under YAML front matter, as the Hugging Face hub reads it. No paths."""
    import yaml

    lora = done.rank is not None
    front = {
        **({"base_model": base} if base and not Path(base).is_absolute() else {}),
        "library_name": "peft" if lora else "transformers",
        "tags": ["merge", "research-only", "grand-rounds", job.method.type, *(["lora"] if lora else [])],
    }
    own = job.method.model_dump(exclude={"type"})
    settings = ", ".join(f"{key} {value:g}" for key, value in own.items())
    rows = [
        f"| {name} | {job.weights.get(name, 1.0):g} | {each.update.rank} | {len(each.update)} | {_digest(each)} |"
        for name, each in sorted(adapters.items())
    ]
    rules = "".join(f"\n- {rule.model_dump_json(exclude_none=True)}" for rule in job.rules)
    lost = f"{100 * done.largest_error:.2f} % of a module's update"
    cut = f"A LoRA of rank {done.rank}; the cut to it costs at most {lost}."
    written = {"lora": cut, "cat": f"The exact sum, as a LoRA of rank {done.rank}.", "full": "Whole weights, not cut."}
    return f"""---
{yaml.safe_dump(front, sort_keys=False).rstrip()}
---

# {" + ".join(sorted(adapters))}, merged by {job.method.type}

> **Research only, never for clinical use.** A merge was never trained: judge it before anything leans on it.

{METHODS[job.method.type].paper}; {settings}. {written[job.kind]}

| adapter | weight | rank | modules | sha256 of its weights |
|---|---|---|---|---|
{chr(10).join(rows)}
{f"{chr(10)}Rules, the last that matches wins:{chr(10)}{rules}{chr(10)}" if rules else ""}
Conflict: {done.fight or "no module in common"}. Every pair and module is in `conflicts.parquet`.
"""


def _digest(adapter: Adapter) -> str:
    with (adapter.folder / WEIGHTS).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]
