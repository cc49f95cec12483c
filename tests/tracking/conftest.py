"""A toy project on disk: stages with run.json and dvc.lock as DVC leaves them, but with bytes of our own."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from grandrounds.params import Params, load
from grandrounds.tracking import lock
from grandrounds.tracking.stage import run_name, sections

REPOSITORY = Path(__file__).parents[2]
NO_CODE = {"tasks/curate.py": "1" * 32, "grandrounds/sources": "2" * 32 + ".dir"}


class Project:
    """Stages are added one by one; each call does what `dvc repro -s` would leave behind."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.stages: dict[str, Any] = {}
        for name in ("params.yaml", "dvc.yaml"):
            shutil.copy(REPOSITORY / name, root / name)
        self.params: Params = load(root / "params.yaml")
        self.runs = 0

    def md5(self, path: str) -> str:
        return lock.digest(path, self.root).md5

    def write(self, path: str, text: str) -> None:
        """A file, or for models a folder with an adapter in it."""
        target = self.root / path
        if path.startswith("models/"):
            target.mkdir(parents=True, exist_ok=True)
            if path != "models/base":
                (target / "adapter_config.json").write_text("{}")
            target = target / "weights.safetensors"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def stage(
        self, name: str, inputs: list[str], outputs: dict[str, str], code: dict[str, str] | None = None
    ) -> dict[str, Any]:
        stage, _, item = name.partition("@")
        for path, text in outputs.items():
            self.write(path, text)
        self.runs += 1
        record = {
            "stage": stage, "item": item or None, "mlflow_run_id": f"{self.runs:032x}", "seed": 7,
            "started": f"2020-11-21T10:00:{self.runs:02d}+00:00", "seconds": 1.5, "peak_mib": 100.0,
            "params": sections(stage, item or None, self.params), "metrics": {"loss_last": 0.25},
            "inputs": [{"path": path, "md5": self.md5(path)} for path in inputs], "outputs": list(outputs),
            "versions": {"torch": "2.14.1"}, "git": {"commit": "c0ffee", "dirty": False}, "threads": 1, "device": "cpu",
        }  # fmt: skip
        folder = Path("reports", stage, item)
        (self.root / folder).mkdir(parents=True, exist_ok=True)
        (self.root / folder / "run.json").write_text(json.dumps(record))
        (self.root / folder / "curves.csv").write_text("step,loss\n0,1.0\n1,nan\n2,0.25\n")
        outs = [*outputs, (folder / "run.json").as_posix()]
        deps = {**{path: self.md5(path) for path in inputs}, **({} if code is None else code)}
        self.stages[run_name(stage, item or None)] = {
            "cmd": f"python -m tasks.{stage} {item}".strip(),
            "deps": [{"path": path, "hash": "md5", "md5": md5} for path, md5 in deps.items()],
            "outs": [{"path": path, "hash": "md5", "md5": self.md5(path)} for path in outs],
        }
        (self.root / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": self.stages}))
        return record

    @staticmethod
    def scores(**val: float) -> dict[str, Any]:
        """reports/judge/metrics.json with the given accuracy on val, ten points less on test."""
        return {
            arm: {"val": {"accuracy": value}, "test": {"accuracy": value - 0.1}, "unseen": {"accuracy": None}}
            for arm, value in val.items()
        }

    def pipeline(self, base: str = "base weights") -> None:
        """curate -> base -> two adapters -> their merge."""
        self.stage("curate", [], {"data/curated/train.parquet": "train"}, NO_CODE)
        self.stage("base", ["data/curated/train.parquet"], {"models/base": base})
        for name in ("generalist", "pediatrics"):
            inputs = ["data/curated/train.parquet", "models/base"]
            self.stage(f"adapt@{name}", inputs, {f"models/adapters/{name}": f"{name} on {base}"})
        adapters = ["models/adapters/pediatrics", "models/adapters/generalist"]
        self.stage("merge@experts", adapters, {"models/merged/experts": f"experts on {base}"})


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tables: Path) -> Project:
    """An empty project that is the working folder; its MLflow database is its own."""
    for name in ("MLFLOW_TRACKING_URI", "DVC_ROOT", "DVC_EXP_NAME", "DVC_EXP_BASELINE_REV", "GRANDROUNDS_PARENT_RUN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".mlflow").mkdir()
    shutil.copy(tables, tmp_path / ".mlflow/mlflow.db")
    return Project(tmp_path)
