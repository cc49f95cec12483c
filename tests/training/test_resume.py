"""Killed with signal 9 and started again, training gives the bytes and figures of the run that nothing interrupted."""

import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from grandrounds import models
from grandrounds.domain import prompts, rewards
from grandrounds.encoding import Encoder
from grandrounds.params import Checkpoints, GrpoItem, Lora
from grandrounds.runtime import seed_everything
from grandrounds.training import adapter, checkpoints, grpo, sft, states, validation

SETTINGS = Checkpoints(every=2, questions=4, keep="best", max_new_tokens=8)
FORM = prompts.form("reasoning", prompts.COMPACT)


def train(how: str, tiny: Any, folder: Path, kill: str = "", settings: Checkpoints = SETTINGS) -> dict[str, Any]:
    """Train the tiny model in `folder`; `kill` is where to die: `step 3`, or inside the writing of a checkpoint."""
    os.chdir(folder)
    if kill.startswith("while saving"):
        _die_in(states, "save_random", at=int(kill.split()[-1]))
    if kill == "before pruning":
        _die_in(checkpoints.Keeper, "prune", at=2)
    model, processor = models.load(tiny.folder, "cpu", "float32")
    seed_everything(7)
    model, encoder = adapter.attach(model, Lora(r=4, dropout=0.1)), Encoder(processor, tiny.images)
    curve: dict[int, dict[str, float]] = {}
    told: list[Any] = []

    def on_step(step: int, figures: dict[str, float]) -> None:
        curve[step] = figures
        if kill == f"step {step}":
            os.kill(os.getpid(), signal.SIGKILL)

    scorer = validation.scorer(encoder, tiny.questions[20:40], FORM, settings, 7)
    with checkpoints.keeping(
        how, "tiny", "same", settings, "base", score=scorer, on_checkpoint=lambda *each: told.append(each[:2])
    ) as keeper:
        if how == "sft":
            data = [sft.Example(q, FORM, prompts.target(q.explanation, q.answer, FORM)) for q in tiny.questions[:10]]
            figures = sft.train(model, encoder, data, sft.Schedule(7, 4, 2e-2, 0.1), 7, on_step, keeper)
        else:
            item = GrpoItem(
                questions=Path("train"), init=Path("base"), rewards={"format": 1.0, "length": 1.0}, group=4,
                questions_per_step=2, steps=5, max_new_tokens=8, learning_rate=1e-2,
                prompts=("explanation", "reasoning"),
            )  # fmt: skip
            functions, _ = rewards.build(item.rewards, limit=8)
            figures = grpo.train(
                model, encoder, tiny.questions[:9], functions, item, prompts.COMPACT, 7, on_step, keeper=keeper
            )
        adapter.save(model, "adapter")
    return {
        "weights": Path("adapter/adapter_model.safetensors").read_bytes(),
        "curve": curve, "figures": figures, "told": told, "left": sorted(Path(".scratch/checkpoints").glob("*")),
    }  # fmt: skip


def _die_in(owner: Any, name: str, at: int) -> None:
    whole, calls = getattr(owner, name), iter(range(1, 100))

    def dying(*given: Any) -> Any:
        if next(calls) == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return whole(*given)

    setattr(owner, name, dying)


def killed(how: str, tiny: Any, folder: Path, kill: str) -> None:
    folder.mkdir(exist_ok=True)
    child = multiprocessing.get_context("spawn").Process(target=train, args=(how, tiny, folder, kill))
    child.start()
    child.join(120)
    assert child.exitcode == -signal.SIGKILL


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def compare(how: str, tiny: Any, folder: Path, *kills: str) -> None:
    (folder / "whole").mkdir()
    whole = train(how, tiny, folder / "whole")
    for kill in kills:
        killed(how, tiny, folder / "killed", kill)
        assert list((folder / "killed").rglob("step-*")), "it died before its first checkpoint"
    again = train(how, tiny, folder / "killed")
    for step in whole["curve"]:
        assert str(again["curve"][step]) == str(whole["curve"][step]), step  # NaN is not equal to itself
    assert str(again) == str(whole)
    assert len(again["told"]) == len(range(0, len(again["curve"]), 2)) and again["left"] == []
    assert whole["figures"]["checkpoints"]["kept"] in {step for _, step in whole["told"]}


def test_sft_killed_twice_gives_the_same_bytes(tiny: Any, tmp_path: Path) -> None:
    compare("sft", tiny, tmp_path, "step 3", "while saving 1")


def test_grpo_killed_gives_the_same_bytes(tiny: Any, tmp_path: Path) -> None:
    compare("grpo", tiny, tmp_path, "step 3")


@pytest.mark.slow
@pytest.mark.parametrize("how", ["sft", "grpo"])
@pytest.mark.parametrize("kill", ["step 2", "step 4", "step 5", "while saving 2", "before pruning"])
def test_at_any_moment(how: str, kill: str, tiny: Any, tmp_path: Path) -> None:
    if kill == "step 2":  # logged, but no checkpoint yet: it begins again
        killed(how, tiny, tmp_path / "killed", kill)
        assert not list((tmp_path / "killed").rglob("step-*"))
        return
    compare(how, tiny, tmp_path, kill)
