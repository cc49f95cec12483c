"""A registered model as a folder that transformers and PEFT load, and for one question; with a real tiny model."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tracking.conftest import Project
from typer.testing import CliRunner

from grandrounds import cli, delivery, lora, models
from grandrounds.domain.adapters import LoraFactors, LoraUpdate
from grandrounds.errors import UserError
from grandrounds.tracking import registry

VAL = {"base": 0.4, "sft": 0.5}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: SimpleNamespace) -> Any:
    """The tiny model as models/base, and an adapter on it that changes what it says."""
    for name in ("MLFLOW_TRACKING_URI", "DVC_ROOT", "DVC_EXP_NAME", "DVC_EXP_BASELINE_REV"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    project = Project(tmp_path)
    shutil.copytree(tiny.folder, "models/base")
    model, _ = models.load("models/base", "cpu", "float32")
    name, linear = next(
        (name, each)
        for name, each in model.named_modules()
        if name.endswith("language_model.layers.0.self_attn.q_proj")
    )
    draw = torch.Generator().manual_seed(7)
    shape = linear.weight.shape
    factors = LoraFactors(torch.randn(4, shape[1], generator=draw), torch.randn(shape[0], 4, generator=draw), 1.0)
    lora.save_update("models/adapters/generalist", LoraUpdate({name: factors}, "test"))
    monkeypatch.setattr(project, "write", lambda path, text: None)
    project.stage("base", [], {"models/base": ""})
    project.stage("adapt@generalist", ["models/base"], {"models/adapters/generalist": ""})
    registry.publish(project.params, project.scores(**VAL), {"sft": "# the card"})
    return project


def typed(*words: str) -> str:
    done = CliRunner().invoke(cli.app, list(words), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.tensor([[5, 6, 7, 8]])).logits


def test_plain_transformers_and_peft_load_what_was_exported(project: Any) -> None:
    from peft import PeftModel
    from transformers import AutoModelForImageTextToText

    base = AutoModelForImageTextToText.from_pretrained("models/base")
    before = logits(base)
    assert "Research only" in typed("export", "grandrounds@champion", "merged folder")
    typed("export", "grandrounds@champion", "adapter", "--adapter")
    typed("export", "grandrounds@base", "whole")
    merged = logits(AutoModelForImageTextToText.from_pretrained("merged folder"))
    adapted = logits(PeftModel.from_pretrained(AutoModelForImageTextToText.from_pretrained("adapter/base"), "adapter"))
    assert torch.allclose(merged, adapted, atol=1e-4) and not torch.allclose(merged, before, atol=1e-2)
    assert torch.equal(logits(AutoModelForImageTextToText.from_pretrained("whole")), before)
    assert "never for clinical use" in Path("adapter/README.md").read_text()
    with pytest.raises(UserError, match="merged folder: exists and is not an empty folder"):
        typed("export", "grandrounds@champion", "merged folder")
    with pytest.raises(UserError, match="is a whole model, not an adapter"):
        typed("export", "grandrounds@base", "other", "--adapter")

    shutil.rmtree("models/adapters")  # the registry has an adapter's bytes, but not those of its base
    typed("export", "grandrounds@champion", "again")
    assert torch.equal(logits(AutoModelForImageTextToText.from_pretrained("again")), merged)
    weights = Path("models/base/model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    with pytest.raises(UserError, match=r"is an adapter on models/base with md5 .* not the one here"):
        typed("export", "grandrounds@champion", "never")
    with pytest.raises(UserError, match=r"models/base with md5 .* is neither here nor in the registry"):
        typed("export", "grandrounds@base", "never")
    assert not Path("never").exists()


def test_a_full_disk_leaves_nothing(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(found: Any, folder: Path) -> None:
        (folder / "model.safetensors").parent.mkdir()
        (folder / "model.safetensors").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(delivery, "_write_merged", full)
    with pytest.raises(UserError, match="out: the disk is full; free some space"):
        typed("export", "grandrounds@champion", "out")
    assert not [path for path in Path().iterdir() if "out" in path.name]


def test_ask_answers_one_question_labelled_research_only(project: Any, tiny: SimpleNamespace) -> None:
    picture = str(next(tiny.images.iterdir()))
    shown = typed("ask", "grandrounds@champion", "Which plane is this?", "--image", picture)
    assert "version 2 (sft). Research only, never for clinical use." in shown and "answer" in shown
    with pytest.raises(UserError, match=r"none\.png: no such picture"):
        typed("ask", "grandrounds@champion", "Which plane?", "--image", "none.png")
    with pytest.raises(UserError, match="the question is empty"):
        typed("ask", "grandrounds@champion", " ")
