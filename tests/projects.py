"""A copy of this repository in a folder of its own, on reduced parameters, and its commands as real processes."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
ARMS = ("base", "sft", "experts", "rarl", "mmedexpert")


def reduced(params: dict) -> dict:
    """Few questions, few steps, five arms: every stage does its real work on a model that learns nothing."""
    params["curate"]["sources"]["embedded"] |= {"pretrain": 240, "train": 80, "val": 30, "test": 40, "unseen": 30}
    params["base"]["model"] |= {
        "hidden": 48,
        "layers": 2,
        "steps": 12,
        "teacher_steps": 4,
        "batch": 16,
        "teacher_rehearsal": 40,
    }
    params["filter"] |= {"n": 2, "keep": {"min": 0, "max": 1}}
    params["filter"]["sampling"]["max_new_tokens"] = 16
    params["distill"] |= {"teacher": {"type": "reference"}}
    params["adapt"]["training"] |= {"steps": 3, "batch": 8}
    for item in params["grpo"]["items"].values():
        item |= {"steps": 2, "group": 4, "questions_per_step": 2, "max_new_tokens": 12}
    params["predict"]["sampling"]["max_new_tokens"] = 8
    params["predict"]["arms"] = {name: arm for name, arm in params["predict"]["arms"].items() if name in ARMS}
    params["judge"]["resamples"] = 200
    return params


def copied(folder: Path) -> Path:
    """A copy of what git would commit, with reduced parameters and no results."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines():
        result = name == "dvc.lock" or (name.startswith("reports/") and not name.endswith(".gitkeep"))
        if (ROOT / name).is_file() and not result:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (folder / "reports").mkdir(exist_ok=True)
    params = reduced(yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8")))
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "reduced"]):
        subprocess.run(
            ["git", "-c", "user.name=test", "-c", "user.email=test@localhost", *command], cwd=folder, check=True
        )
    return folder


def environment(**more: str) -> dict[str, str]:
    """Ours without what belongs to another project or server, and `more`."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "MLFLOW_"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{ours['PATH']}"
    return ours | {"PATH": path, "PYTHONUNBUFFERED": "1", **more}


def dvc(project: Path, *arguments: str, **more: str) -> tuple[str, float]:
    """What a DVC command printed, and its seconds; `more` are variables of its environment."""
    begin = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments], cwd=project, env=environment(**more), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-4000:]
    return done.stdout, time.monotonic() - begin


def ours(project: Path, *words: str, **more: str) -> str:
    """One of our own commands in a process of its own; what it prints."""
    command = [sys.executable, "-m", "grandrounds.cli", *words]
    done = subprocess.run(command, cwd=project, env=environment(**more), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout
