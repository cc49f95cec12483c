"""What works on this GPU, in some ten minutes: load, two SFT steps, two GRPO steps, vLLM with the LoRA.

    python benchmarks/gpu_smoke.py [--recipe medvlthinker-3b]   needs a GPU, and the hub or its cache
    python benchmarks/gpu_smoke.py --tiny                       a tiny model on the CPU: the script itself works

The real stages run on a copy of the recipe, with the embedded corpus for its data sets and two steps a training, in
a folder of their own. Each part is reported whether or not the one before it worked; exit code 1 when one did not.
Not yet run on a GPU. The last line is JSON: what worked, and seconds.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
CODE = ("grandrounds", "tasks", "dvc.yaml")
CORPUS = {"type": "embedded", "pretrain": 240, "train": 60, "val": 16, "test": 40, "unseen": 30, "image_share": 0.3}
ALL = ["adult_medicine", "pediatrics", "brain_senses", "oncology_surgery"]
PARTS = [
    ("corpus", ["curate"]),
    ("load", ["base"]),
    ("generate", ["filter", "text"]),
    ("generate_images", ["filter", "image_text"]),
    ("traces", ["distill"]),
    ("sft", ["adapt", "generalist"]),
    ("grpo", ["grpo", "smoke"]),
    ("lora_in_engine", ["predict", "smoke"]),
]


def main() -> None:
    parser = argparse.ArgumentParser(description="What works on this GPU.")
    parser.add_argument("--recipe", default="medvlthinker-3b", help="whose model and settings are tried")
    parser.add_argument("--tiny", "--quick", action="store_true", help="a tiny model on the CPU")
    options = parser.parse_args()
    recipe = "embedded" if options.tiny else options.recipe
    params = reduced(yaml.safe_load((ROOT / "recipes" / f"{recipe}.yaml").read_text(encoding="utf-8")), options.tiny)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="gpu-smoke-") as folder:
        project = Path(folder)
        for name in CODE:
            source = ROOT / name
            shutil.copytree(source, project / name) if source.is_dir() else shutil.copy2(source, project / name)
        (project / "data/sources").mkdir(parents=True)
        (project / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
        for name, command in PARTS:
            found[name] = tried(name, command, project)
    print(json.dumps(found))
    sys.exit(not all(each["works"] for each in found.values()))


def reduced(params: dict[str, Any], tiny: bool) -> dict[str, Any]:
    """The recipe's model, engines and batches, on the embedded corpus, two steps a training."""
    params["curate"]["sources"] = {"embedded": CORPUS}
    params["curate"]["validation"] = 0.1
    params["compute"] |= {"launch": "plain", "processes": 1, "machines": 1, "rollouts": "transformers"}
    if tiny:
        params["base"]["model"] |= {"hidden": 48, "layers": 2, "steps": 4, "teacher_steps": 2, "teacher_rehearsal": 20}
    else:
        params["compute"]["gradient_checkpointing"] = True
        params["predict"]["engine"] = {"type": "vllm", "memory": 0.6, "context": 2048}
    params["filter"] |= {"n": 2, "keep": {"min": 0, "max": 2}}
    params["filter"]["sampling"]["max_new_tokens"] = 64
    params["distill"] |= {"teacher": {"type": "reference"}, "questions": "train"}
    params["adapt"]["training"] |= {"method": "lora", "steps": 2, "batch": 2, "accumulation": 1}
    params["adapt"]["training"].pop("checkpoints", None)
    params["adapt"]["items"] = {"generalist": {"specialties": ALL}}
    params["merge"]["items"] = {}
    params["grpo"]["items"] = {
        "smoke": {
            "questions": "data/curated/train.parquet", "init": "models/base", "rewards": {"gated_correctness": 1.0},
            "group": 4, "questions_per_step": 1, "steps": 2, "learning_rate": 1e-5, "max_new_tokens": 128,
        }
    }  # fmt: skip
    params["predict"]["sampling"]["max_new_tokens"] = 128
    params["predict"]["splits"], params["predict"]["prompts"] = ["val"], ["reasoning"]
    params["predict"]["arms"] = {"smoke": {"adapter": "models/policies/smoke", "title": "Smoke", "family": "rl"}}
    params["judge"]["baselines"] = []
    return params


def tried(name: str, command: list[str], project: Path) -> dict[str, Any]:
    """Run one stage and say in a line whether it worked, how long it took, and else why not."""
    begin = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", f"tasks.{command[0]}", *command[1:]], cwd=project, capture_output=True, text=True,
        env={**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{project}/mlflow.db"}, check=False,
    )  # fmt: skip
    seconds, works = round(time.monotonic() - begin, 1), done.returncode == 0
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    why = "" if works else next((line for line in reversed(lines) if "rror" in line), lines[-1] if lines else "silent")
    print(f"{name:15} {'works' if works else 'does not work'} ({seconds} s) {why[:300]}", flush=True)
    return {"works": works, "seconds": seconds}


if __name__ == "__main__":
    main()
