"""What orchestration costs: `dvc repro` and `grandrounds run` of the whole pipeline beside the stages' compute alone.

The compute alone is every stage's own main function, one after the other in dvc.lock's order, each in a child forked
from a process that has imported every library already: no start of an interpreter, no imports, no DVC and no Prefect.
All three run in one clone of the committed code, from an empty cache, with the same cores.

`ratio_repro` and `ratio_run` are wall times over the compute's; two stages at a time can bring the second under 1.
`noop_seconds`: `dvc repro` when nothing changed, the median of three. `--quick` takes a tenth of the training steps, so
that start-up weighs several times what it does in a real run: its ratios are upper limits.
"""

import argparse
import importlib
import json
import os
import runpy
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
LIBRARIES = (
    "torch", "torchvision", "transformers", "trl", "peft", "accelerate", "datasets", "bert_score", "mlflow", "openai",
    "optuna", "pandas", "pyarrow.parquet", "scipy.stats", "statsmodels.api", "matplotlib.pyplot", "nilearn.datasets",
    "safetensors.torch", "grandrounds.training.grpo", "grandrounds.training.sft", "grandrounds.reporting.report",
)  # fmt: skip
QUICK = {
    "base.model.steps": 170,
    "base.model.teacher_steps": 15,
    "adapt.training.steps": 20,
    "grpo.items.medvlthinker.steps": 6,
    "grpo.items.rarl.steps": 6,
    "grpo.items.mmedexpert.steps": 6,
}


def environment() -> dict[str, str]:
    """Of a user's shell: the environment's Python first, no server and no setting of ours."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "MLFLOW_", "PREFECT_"))}
    return kept | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}", "DVC_NO_ANALYTICS": "1"}


def clone(folder: Path, quick: bool) -> None:
    """The committed code without results, as a project of its own."""
    subprocess.run(["git", "clone", "-q", str(ROOT), str(folder)], check=True)
    (folder / "dvc.lock").unlink()
    if quick:
        path = folder / "params.yaml"
        params = yaml.safe_load(path.read_text(encoding="utf-8"))
        for key, value in QUICK.items():
            put(params, key.split("."), value)
        path.write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")


def put(values: dict[str, Any], keys: list[str], value: int) -> None:
    for key in keys[:-1]:
        values = values[key]
    assert keys[-1] in values, f"params.yaml has no {keys[-1]} here"
    values[keys[-1]] = value


def timed(project: Path, *words: str) -> float:
    """Seconds of one command; what it says is shown only when it fails."""
    begin = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=project, env=environment(), stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"{' '.join(words)} ended with {done.returncode}:\n{done.stdout[-4000:]}")
    return time.monotonic() - begin


def compute(project: Path) -> dict[str, float]:
    """Stage -> seconds of its own main function, every library imported before."""
    told = project.parent / "compute.json"
    command = [sys.executable, str(Path(__file__).resolve()), "--forks", str(told)]
    done = subprocess.run(command, cwd=project, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"the stages' compute failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(told.read_text(encoding="utf-8"))
    return found


def forks(told: Path) -> None:
    """In the project's folder: import everything, then run each stage in a child."""
    sys.path.insert(0, os.getcwd())
    from grandrounds import runtime
    from grandrounds.params import load

    runtime.prepare(load())
    for name in LIBRARIES:
        importlib.import_module(name)
    stages = yaml.safe_load(Path("dvc.lock").read_text(encoding="utf-8"))["stages"]
    seconds = {}
    for name in ordered(list(stages)):
        begin = time.monotonic()
        child = os.fork()
        if not child:
            run(stages[name]["cmd"])
        _, status = os.waitpid(child, 0)
        if status:
            sys.exit(f"{name} ended with {os.waitstatus_to_exitcode(status)}")
        seconds[name] = time.monotonic() - begin
    told.write_text(json.dumps(seconds), encoding="utf-8")


def ordered(names: list[str]) -> list[str]:
    """In the order in which `dvc repro` runs them."""
    from flows.plan import read

    return [stage.name for stage in read() if stage.name in names]


def run(command: str) -> None:
    """`python -m tasks.adapt pediatrics` in this process, which ends with it."""
    _, _, module, *arguments = command.split()
    sys.argv = [module, *arguments]
    code = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as ended:  # its code may be a text, which is a failure
        code = ended.code if isinstance(ended.code, int) else int(bool(ended.code))
    except BaseException as error:
        print(f"{command}: {error!r}", file=sys.stderr)
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the training steps")
    parser.add_argument("--workers", type=int, default=2, help="of grandrounds run")
    parser.add_argument("--forks", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.forks:
        forks(asked.forks)
        return
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder, "project")
        clone(project, asked.quick)
        repro = timed(project, "dvc", "repro")
        noop = statistics.median(timed(project, "dvc", "repro") for _ in range(3))
        alone = compute(project)
        flow = timed(project, "grandrounds.cli", "run", "--force", "--workers", str(asked.workers))
    total = sum(alone.values())
    print(
        json.dumps(
            {
                "ratio_repro": round(repro / total, 3),
                "ratio_run": round(flow / total, 3),
                "noop_seconds": round(noop, 2),
                "stages": len(alone),
                "compute_seconds": round(total, 1),
                "repro_seconds": round(repro, 1),
                "run_seconds": round(flow, 1),
                "start_up_seconds_a_stage": round((repro - total) / len(alone), 2),
                "slowest": dict(sorted(((k, round(v, 1)) for k, v in alone.items()), key=lambda each: -each[1])[:5]),
                "cores": len(os.sched_getaffinity(0)),
                "quick": asked.quick,
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
