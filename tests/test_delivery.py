"""A registered model as a folder that transformers and PEFT load, and for one question; with a real tiny model."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tracking.conftest import Project
from typer.testing import CliRunner

from grandrounds import cli, delivery, files, lora, models
from grandrounds.domain.adapters import LoraFactors, LoraUpdate
from grandrounds.errors import UserError
from grandrounds.records import Question
from grandrounds.tracking import impact, lineage, promotion, registry, restoring, store, verifying
from grandrounds.tracking.stage import stage_run

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


def test_a_checkpoint_is_asked_the_whole_split_before_it_is_promoted(
    project: Any, tiny: SimpleNamespace, tables: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("data/curated").mkdir(parents=True)
    Path("data/curated/images").symlink_to(tiny.images)
    asked = [replace(question, split="val") for question in tiny.questions[:40]]
    files.write("data/curated/val.parquet", asked, Question)
    with pytest.raises(RuntimeError), stage_run(  # killed after its checkpoint
        "adapt", "pediatrics", project.params, inputs=["models/base"], outputs=["models/adapters/pediatrics"]
    ) as run:  # fmt: skip
        shutil.copytree("models/adapters/generalist", "outbox")
        run.checkpoint(20, {"accuracy": 0.75}, Path("outbox"))
        raise RuntimeError("killed")
    typed("pick", "--checkpoints", "--alias", "challenger")
    client, _ = store.connect()
    checkpoint = client.get_model_version_by_alias("grandrounds", "challenger")
    tags = checkpoint.tags
    assert (tags["stage"], tags["base_md5"], tags["seed"]) == ("adapt@pediatrics", project.md5("models/base"), "7")
    assert tags["sample.val.accuracy"] == "0.75" and "val.accuracy" not in tags
    assert "adapt-pediatrics-step-20: has no val.accuracy" in typed("pick")  # of the whole split

    shown = typed("promote")  # the champion's predictions were never there: it is asked too
    assert "version 3: " in shown and "version 2: " in shown and "+0.0 points [+0.0, +0.0] on 40 questions" in shown
    champion = client.get_model_version_by_alias("grandrounds", "champion")
    kept = json.loads(Path(mlflow_files(champion), promotion.ANSWERS).read_text())
    right = [ok for _, ok in kept.values()]
    assert champion.version == checkpoint.version and set(kept) == {question.id for question in asked}
    assert float(champion.tags["val.accuracy"]) == pytest.approx(sum(right) / len(right))
    assert "% right" not in typed("promote", "grandrounds@sft")  # both have answered
    typed("rollback")

    (edge,) = [each for each in lineage.walk("grandrounds", "champion").nodes() if each.name == "base"]
    assert edge.commit == "c0ffee"
    (reached,) = [each for each in impact.of_file("models/base").reached if each.path.startswith("checkpoint ")]
    assert reached.trained and "grandrounds version 3 (challenger, champion)" in reached.versions
    states = {each.path: each.state for each in verifying.verify("grandrounds", "champion")}
    assert states["grandrounds version 3"] == states["models/base"] == "true"
    assert states["code of adapt@pediatrics"] == "missing"  # the run was killed
    typed("export", "grandrounds@champion", "out", "--adapter")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{shutil.copy(tables, 'other.db')}")
    files.write_json("reports/judge/metrics.json", project.scores(**VAL))
    done = restoring.restore(project.params)
    assert any(
        each.startswith("champion (adapt-pediatrics-step-20") and "restore that one" in each for each in done.lost
    )


def mlflow_files(version: Any) -> str:
    import mlflow

    return str(mlflow.artifacts.download_artifacts(f"models:/{version.name}/{version.version}", dst_path="downloaded"))
