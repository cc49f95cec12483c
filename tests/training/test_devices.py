"""Two processes on the CPU (gloo) train as one does: DDP, and FSDP2 in shards."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from grandrounds.errors import UserError
from grandrounds.params import Compute
from grandrounds.tracking import launch
from grandrounds.training import devices

HERE = Path(__file__).parent


def train(how: str, tiny: Any, folder: Path) -> dict[str, list[float]]:
    folder.mkdir()
    run = [
        sys.executable,
        *(["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"] if how != "plain" else []),
    ]
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*run, str(HERE / "together.py"), how, str(tiny.folder), str(tiny.images), str(folder)],
        env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-6000:]
    assert not list(folder.rglob("step-*"))
    return json.loads((folder / "losses.json").read_text())


def test_two_processes_have_the_losses_of_one(tiny: Any, tmp_path: Path) -> None:
    one, two = train("plain", tiny, tmp_path / "one"), train("ddp", tiny, tmp_path / "two")
    assert two["sft"] == pytest.approx(one["sft"], abs=1e-5)
    assert two["grpo"] == pytest.approx(one["grpo"], abs=1e-5)  # each rollout has its own generator, wherever it is


@pytest.mark.slow
def test_shards_have_the_losses_of_a_whole_model(tiny: Any, tmp_path: Path) -> None:
    one, two = train("plain", tiny, tmp_path / "one"), train("fsdp", tiny, tmp_path / "two")
    assert two["sft"] == pytest.approx(one["sft"], abs=1e-5)
    assert (tmp_path / "two/sft/adapter_model.safetensors").is_file()


def test_a_stage_starts_its_own_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    two = Compute(launch="ddp", processes=8, machines=2, address="10.0.0.1:29500")
    monkeypatch.delenv("RANK", raising=False)
    assert launch.wanted("grpo", two) and not launch.wanted("judge", two) and not launch.wanted("grpo", Compute())
    with pytest.raises(UserError, match="GRANDROUNDS_MACHINE: this machine's number, 0 to 1"):
        launch.command("grpo", ["rarl"], two)
    monkeypatch.setenv("GRANDROUNDS_MACHINE", "1")
    said = " ".join(launch.command("grpo", ["rarl"], two))
    assert "--nnodes 2 --node-rank 1 --master-addr 10.0.0.1 --master-port 29500 --nproc-per-node 8" in said
    assert said.endswith("-m tasks.grpo rarl")
    monkeypatch.setenv("RANK", "3")
    assert not launch.wanted("grpo", two)


@pytest.mark.parametrize(
    "path", sorted((HERE.parents[1] / "recipes/compute").glob("*.yaml")), ids=lambda path: path.stem
)
def test_ready_sections_are_valid(path: Path) -> None:
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert list(raw) == ["compute"] and Compute(**raw["compute"]).device == "cuda"


def test_what_cannot_be_divided_is_refused() -> None:
    assert devices.rows(64, 2, 8) == 4
    with pytest.raises(UserError, match=r"a batch of 12 .* on each of 4 processes; accumulation: 1, 3 would"):
        devices.rows(12, 2, 4)
    with pytest.raises(ValueError, match="more than one process needs launch"):
        Compute(processes=2)
    with pytest.raises(UserError, match="use vllm_colocate"):
        devices.rollouts(Compute(rollouts="vllm_server"), spread=True)
