"""Ablations: data that params.yaml would accept, and overrides that DVC reads as we do."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from grandrounds import ablations
from grandrounds.cli import app
from grandrounds.errors import UserError
from grandrounds.params import load
from grandrounds.tracking import experiments

ROOT = Path(__file__).resolve().parent.parent
RAW = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
PARAMS = load(ROOT / "params.yaml")
ALL = ablations.load(ROOT / "ablations.yaml")


@pytest.mark.parametrize("name", ALL)
def test_each_is_what_params_accept_and_what_dvc_reads(name: str, tmp_path: Path) -> None:
    from dvc.utils.hydra import apply_overrides

    trials = ablations.trials(name, ALL[name], 3, RAW, PARAMS)
    assert len({trial.name for trial in trials}) == 3 * len(ALL[name].arms)
    for trial in trials:
        path = tmp_path / "params.yaml"
        path.write_text(yaml.safe_dump(RAW, sort_keys=False))
        apply_overrides(path, list(experiments.settings(RAW, trial.overrides)))
        assert yaml.safe_load(path.read_text()) == ablations.changed(RAW, trial.overrides)


def test_arms_of_a_seed_differ_by_what_is_asked_and_the_first_seed_is_the_run_itself() -> None:
    with_, without = {}, {}
    for trial in ablations.trials("reasoning_reward", ALL["reasoning_reward"], 2, RAW, PARAMS):
        (with_ if trial.variant == "with" else without)[trial.seed] = trial
    assert with_[0].overrides == {} and with_[0].name == "rarl-s0-as-is" and with_[0].target == "predict@rarl"
    assert with_[1].overrides == {"grpo.items.rarl.seed_offset": 1}
    assert without[1].overrides == {"grpo.items.rarl.rewards.reasoning": None, "grpo.items.rarl.seed_offset": 1}
    assert without[0].name.split("-")[2:] == without[1].name.split("-")[2:] != with_[1].name.split("-")[2:]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"against": "nothing"}, ["against", "'nothing'", "with"]),
        ({"arms": {"with": {"arm": "rarl"}}}, ["arms", "at least 2"]),
        ({"arms": {"with": {"arm": "rarl"}, "b": {"arm": "rall"}}}, ["arms.b", "'rall'", "did you mean 'rarl'"]),
        ({"arms": {"with": {"arm": "rarl"}, "b": {"arm": "mmedexpert"}}}, ["models/merged/unified", "seed"]),
        (
            {"arms": {"with": {"arm": "rarl"}, "b": {"arm": "rarl", "set": {"grpo.items.rarl.bta": 1}}}},
            ["arms.b", "'bta'", "did you mean 'beta'"],
        ),
    ],
)
def test_mistakes_are_one_line(change: dict, words: list[str], tmp_path: Path) -> None:
    path = tmp_path / "ablations.yaml"
    spec = {"asks": "?", "claim": "none", "against": "with", "arms": {"with": {"arm": "rarl"}, "b": {"arm": "sft"}}}
    path.write_text(yaml.safe_dump({"mine": {**spec, **change}}))
    with pytest.raises(UserError) as caught:
        ablations.trials("mine", ablations.find("mine", path), 1, RAW, PARAMS)
    assert all(word in str(caught.value) for word in words) and "\n" not in str(caught.value)


STOPPED = """
import sys
from rich.console import Console
from types import SimpleNamespace
from grandrounds.commands import ablate
from grandrounds.tracking import experiments
experiments.find = lambda name: None
sleeping = "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(300)"
experiments.command = lambda *_: [sys.executable, "-c", sleeping]
trial = SimpleNamespace(variant="with", seed=0, name="sleeping", target="predict@rarl", overrides={})
ablate._carried_out([trial], {}, 1, Console())
"""


def test_sigterm_ends_the_experiment_that_is_under_way(tmp_path: Path) -> None:
    import psutil

    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    running = subprocess.Popen([sys.executable, "-c", STOPPED], cwd=tmp_path, env=environment, stderr=subprocess.PIPE)
    told, end = tmp_path / "pid", time.monotonic() + 60
    while not (told.exists() and told.read_text()):
        assert running.poll() is None and time.monotonic() < end
        time.sleep(0.05)
    running.terminate()
    assert running.wait(30)
    left = [each for each in psutil.process_iter() if str(each.pid) == told.read_text()]
    assert all(each.status() == psutil.STATUS_ZOMBIE for each in left)


def test_the_command_lists_and_shows_without_running(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert all(name in CliRunner().invoke(app, ["ablate"]).output for name in ALL)
    shown = CliRunner().invoke(app, ["ablate", "gba", "--seeds", "2", "--dry"]).output
    assert shown.count("mmedexpert_policy-s1-") == 2 and "++grpo.items.mmedexpert.seed_offset=1" in shown
    wrong = CliRunner().invoke(app, ["ablate", "gbaa"])
    assert isinstance(wrong.exception, UserError) and "did you mean 'gba'" in str(wrong.exception)
