"""Two runs side by side: which settings, inputs and outputs differ, and what that did to every arm.

A run is what stands in one Git revision (or in the working folder): dvc.lock says which bytes it read and wrote,
params.yaml under which settings, reports/judge/metrics.json what came of it. Differences of accuracy are paired
question by question where the predictions of both are at hand, in the folder, DVC's cache or its remote.
"""

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from grandrounds.domain.statistics import Interval, Resampler, Ruling, holm, ruling
from grandrounds.errors import UserError
from grandrounds.tracking import git, lock
from grandrounds.tracking.stage import flat

WORKSPACE = "workspace"
RUN_ID = re.compile(r"[0-9a-f]{32}")
SCORES = "reports/judge/metrics.json"
PROMPT = "reasoning"
RESAMPLES = 2000


@dataclass(frozen=True)
class Revision:
    """One run. `commit` is None for the working folder."""

    name: str
    commit: str | None
    root: Path

    def read(self, path: str) -> bytes | None:
        """A file that Git keeps; None where this revision has none."""
        if self.commit is None:
            return (self.root / path).read_bytes() if (self.root / path).is_file() else None
        shown = _git(self.root, "show", f"{self.commit}:./{path}")
        return None if shown.problem else shown.out

    @cached_property
    def lock(self) -> lock.Lock:
        text = self.read("dvc.lock")
        return lock.parse(text.decode(), f"dvc.lock of {self.name}") if text is not None else lock.Lock({})

    @cached_property
    def params(self) -> dict[str, Any]:
        return flat(yaml.safe_load(self.read("params.yaml") or b"{}") or {})

    @cached_property
    def scores(self) -> dict[str, Any]:
        import json

        try:
            return dict(json.loads(self.read(SCORES) or b"{}"))
        except ValueError as error:
            raise UserError(f"{SCORES} of {self.name}: not JSON ({error})") from error

    def columns(self, path: str, names: Sequence[str]) -> list[dict[str, Any]] | None:
        """These columns of a parquet file that DVC keeps; None where it is neither here, in the cache nor remote."""
        import pyarrow.parquet as pq
        from dvc.exceptions import DvcException

        try:
            content = (self.root / path).read_bytes() if self.commit is None else self._dvc.read_bytes(path)
        except (OSError, DvcException):
            return None
        return list(pq.read_table(io.BytesIO(content), columns=list(names)).to_pylist())

    def groups(self, split: str) -> dict[str, str]:
        """Question id -> its group; empty for a set that is not at hand."""
        if split not in self._groups:
            paths = (f"data/curated/{split}.parquet", f"data/curated/benchmarks/{split}.parquet")
            rows = next(filter(None, (self.columns(path, ("id", "group")) for path in paths)), [])
            self._groups[split] = {row["id"]: row["group"] for row in rows}
        return self._groups[split]

    @cached_property
    def _groups(self) -> dict[str, dict[str, str]]:
        return {}

    @cached_property
    def _dvc(self) -> Any:
        from dvc.api import DVCFileSystem

        return DVCFileSystem(str(self.root), rev=self.commit)


def resolve(name: str, root: Path) -> Revision:
    """What a person typed: `workspace`, a Git revision, the name of a DVC experiment, or the id of an MLflow run.

    A run's id leads to where its run.json stands, since the commit that MLflow notes is of before the results.
    """
    if name in (WORKSPACE, "."):
        return Revision(WORKSPACE, None, root)
    if commit := _commit(root, name):
        return Revision(name, commit, root)
    for line in _lines(root, "for-each-ref", "--format=%(objectname) %(refname)", "refs/exps"):
        commit, _, reference = line.partition(" ")
        if reference.rpartition("/")[2] == name and not reference.startswith("refs/exps/exec"):
            return Revision(name, commit, root)
    if RUN_ID.fullmatch(name):
        if any(name in path.read_text(encoding="utf-8") for path in (root / "reports").rglob("run.json")):
            return Revision(WORKSPACE, None, root)
        if found := _lines(root, "log", "--all", "--format=%H", f"-S{name}", "--", "reports"):
            return Revision(f"{found[-1][:10]} (run {name[:8]})", found[-1], root)
    if git.shallow(root):
        raise UserError(
            f"'{name}': not in this shallow clone; `git fetch --unshallow` brings the commits that it left out"
        )
    raise UserError(
        f"'{name}': no run of this project; give a Git revision, the name of a DVC experiment (`dvc exp show`), the id "
        "of an MLflow run, or 'workspace'"
    )


def _commit(root: Path, name: str) -> str:
    if name.startswith("-"):
        return ""
    return _git(root, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}").text


def _lines(root: Path, *words: str) -> list[str]:
    return _git(root, *words).text.splitlines()


def _git(root: Path, *words: str) -> git.Said:
    said = git.ask(root, *words)
    if not said.installed:
        raise UserError("git is not installed: earlier runs are read from its commits; install it first")
    return said


@dataclass(frozen=True)
class Difference:
    """One key or path: what the first run has and what the second; `` where one has none."""

    name: str
    first: str
    second: str


def differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Difference]:
    both = [(key, str(first.get(key, "")), str(second.get(key, ""))) for key in {**first, **second}]
    return [Difference(*each) for each in sorted(both) if each[1] != each[2]]


def outputs(run: Revision) -> dict[str, str]:
    """Path -> md5 of everything under data/ and models/ that a stage wrote: what two equal runs have alike."""
    outs = (out for stage in run.lock.stages.values() for out in stage.outs.values())
    return {out.path: out.md5 for out in outs if out.path.startswith(("data/", "models/"))}


def sources(run: Revision) -> dict[str, str]:
    """Path -> md5 of everything that a stage read and none wrote: code, and data from outside."""
    deps = (dep for stage in run.lock.stages.values() for dep in stage.deps.values())
    written = {dep.path for dep in deps if run.lock.producer(dep.path) or run.lock.parts(dep.path)}
    deps = (dep for stage in run.lock.stages.values() for dep in stage.deps.values())
    return {dep.path: dep.md5 for dep in deps if dep.path not in written}


@dataclass(frozen=True)
class Change:
    """An arm's accuracy on one set in both runs (fractions of 1), and the difference second - first.

    `low` and `high` are its paired 95 % interval over `n` questions of both; None where it cannot be had. `ruling` is
    that of the judge stage: McNemar's test by cluster, corrected (Holm) for all arms compared on the set.
    """

    arm: str
    split: str
    first: float | None
    second: float | None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    groups: int = 0
    p: float | None = None
    ruling: Ruling | None = None

    @property
    def verdict(self) -> str:
        if self.difference is None:
            return "in one run only"
        if self.low is None or self.high is None:
            return "no interval: predictions not at hand" if not self.n else "no interval: one group"
        if self.low == self.high == 0:
            return "the same right and wrong"
        return self.ruling or "no test"


def changes(first: Revision, second: Revision, seed: int) -> list[Change]:
    """Every arm and set that either run scored, under the reasoning prompt."""
    found = []
    for arm in {**first.scores, **second.scores}:
        one, two = first.scores.get(arm) or {}, second.scores.get(arm) or {}
        splits = [split for split in {**one, **two} if not split.endswith("_no_reasoning")]
        paired = _paired(first, second, arm) if one and two else {}
        for split in splits:
            a, b = ((each.get(split) or {}).get("accuracy") for each in (one, two))
            change = Change(arm, split, a, b, b - a if a is not None and b is not None else None)
            rows = paired.get(split)
            if change.difference is None or not rows:
                found.append(change)
                continue
            groups = [group for group, _, _ in rows]
            before, after = [a for _, a, _ in rows], [b for _, _, b in rows]
            sampler = Resampler(groups, RESAMPLES, seed)
            made, test = sampler.difference(after, before), sampler.paired(after, before)
            found.append(Change(arm, split, a, b, made.value, made.low, made.high, len(rows), test.clusters, test.p))
    return _ruled(found)


def _ruled(found: Sequence[Change]) -> list[Change]:
    corrected: dict[str, dict[str, float]] = {}
    for split in {each.split for each in found}:
        corrected[split] = holm({each.arm: each.p for each in found if each.split == split and each.p is not None})
    return [
        replace(each, ruling=ruling(Interval(each.difference, each.low, each.high), each.groups, p))
        if (p := corrected[each.split].get(each.arm)) is not None
        else each
        for each in found
    ]


def _paired(first: Revision, second: Revision, arm: str) -> dict[str, list[tuple[str, bool, bool]]]:
    """Set -> (group, right in the first, right in the second) of every question that the arm answered in both."""
    path, names = f"data/predictions/{arm}.parquet", ("split", "question_id", "prompt", "correct")
    answers = []
    for run in (first, second):
        rows = run.columns(path, names)
        if rows is None:
            return {}
        answers.append({(r["split"], r["question_id"]): r["correct"] for r in rows if r["prompt"] == PROMPT})
    one, two = answers
    groups = {split: second.groups(split) for split, _ in two}
    paired: dict[str, list[tuple[str, bool, bool]]] = {}
    for split, question in sorted(set(one) & set(two)):
        group = groups[split].get(question, question)
        paired.setdefault(split, []).append((group, one[split, question], two[split, question]))
    return paired
