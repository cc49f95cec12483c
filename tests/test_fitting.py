"""`doctor --recipe`: what a stage asks of a GPU, and advice that makes it fit."""

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from grandrounds import fitting
from grandrounds.cli import app
from grandrounds.domain.memory import GIB, SHAPES
from grandrounds.errors import UserError
from grandrounds.params import Params, check

ROOT = Path(__file__).resolve().parent.parent
PUBLISHED = ["medvlthinker-3b", "medvlthinker-7b", "medvlthinker-32b", "mmedexpert-7b", "rarl-2b"]


def recipe(name: str) -> dict:
    return yaml.safe_load((ROOT / "recipes" / f"{name}.yaml").read_text(encoding="utf-8"))


def on_one_gpu(name: str) -> dict:
    return recipe(name) | {"compute": {"device": "cuda", "precision": "bfloat16"}}


def advised(raw: dict, lower: str) -> Params:
    """The recipe with the first piece of advice followed: `a.b: 3`, and what stands before it."""
    raw["compute"]["gradient_checkpointing"] = "gradient_checkpointing" in lower
    if "fsdp" in lower:
        raw["compute"] |= {"launch": "fsdp", "processes": int(lower.split(" over ")[1].split()[0])}
    key, value = lower.split(";")[0].rsplit(" ", 2)[-2:]
    *parents, last = key.rstrip(":").split(".")
    node = raw
    for part in parents:
        node = node[part]
    node[last] = int(value)
    return check(raw)


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("limit", [24, 80])
def test_advice_that_is_followed_makes_it_fit(name: str, limit: int) -> None:
    for need in fitting.needs(check(on_one_gpu(name)), limit * GIB):
        assert bool(need.lower) == (need.bytes["total"] > limit * GIB) or need.stage in ("filter", "predict")
        if "accumulation" in need.lower:
            after = {each.stage: each for each in fitting.needs(advised(on_one_gpu(name), need.lower), limit * GIB)}
            assert not after[need.stage].lower, need.lower


def test_a_full_fine_tune_of_the_3b_model_asks_for_what_arithmetic_says() -> None:
    need = {each.stage: each for each in fitting.needs(check(on_one_gpu("medvlthinker-3b")))}["adapt"]
    trained = SHAPES["Qwen/Qwen2.5-VL-3B-Instruct"].language()
    assert need.bytes["optimizer"] == 4 * trained and need.bytes["gradients"] == 2 * trained
    assert need.bytes["weights"] == 7_509_245_952 and not need.lower


def test_the_command_says_what_fits_and_what_to_lower(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    small = CliRunner().invoke(app, ["doctor", "--recipe", "medvlthinker-7b", "--memory", "24"])
    assert small.exit_code == 1 and "does not fit" in small.output and "adapt: lower " in small.output
    monkeypatch.setattr(fitting, "gpus", lambda: [])
    unknown = CliRunner().invoke(app, ["doctor", "--recipe", "rarl-2b"])
    assert unknown.exit_code == 0 and "--memory 40" in unknown.output


@pytest.mark.parametrize("name", [*PUBLISHED, "mmedexpert-2b", "rarl-2b-cvbench"])
def test_every_recipe_fits_the_machine_that_it_names(name: str) -> None:
    limit = 40 if name.startswith("rarl") else 80
    assert not [need for need in fitting.needs(check(recipe(name)), limit * GIB) if need.lower]


def test_colocated_vllm_takes_its_share_and_has_to_hold_the_weights() -> None:
    raw = recipe("medvlthinker-32b")
    raw["compute"]["rollouts"] = "vllm_colocate"
    lower = {each.stage: each.lower for each in fitting.needs(check(raw), 80 * GIB)}
    assert "vllm_server" in lower["grpo@rlvr_text"] and not lower["adapt"]


def test_a_model_of_unknown_size_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    raw = recipe("rarl-2b")
    raw["base"]["model"]["base"]["repository"] = "someone/else"
    with pytest.raises(UserError, match="grandrounds run base"):
        next(fitting.needs(check(raw)))
    (tmp_path / "models/base").mkdir(parents=True)
    (tmp_path / "models/base/config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(UserError, match=r"config\.json: not a Qwen2-VL"):
        next(fitting.needs(check(raw)))
