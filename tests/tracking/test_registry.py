import shutil
from pathlib import Path
from typing import Any

import pytest

from grandrounds import files
from grandrounds.errors import UserError
from grandrounds.params import check
from grandrounds.tracking import registry, store

VAL = {"base": 0.4, "sft": 0.9, "pediatrics": 0.6, "experts": 0.9}  # a tie: the first of params.yaml wins
CARDS = {"sft": "# SFT\n" + "x" * 6000}


def _aliases(client: Any) -> dict[str, str]:
    return {alias: str(version) for alias, version in client.get_registered_model("grandrounds").aliases.items()}


def test_publish(project: Any) -> None:
    """Empty database: runs come from run.json, arms get versions, and doing it again makes nothing new."""
    import mlflow

    project.pipeline()
    first = registry.publish(project.params, project.scores(**VAL), CARDS)
    client, experiment = store.connect()
    runs = client.search_runs([experiment])
    assert sorted(run.info.run_name for run in runs) == [
        "adapt@generalist", "adapt@pediatrics", "base", "curate", "merge@experts",
    ]  # fmt: skip
    assert first.new == ("base", "sft", "pediatrics", "experts")
    assert (first.champion, first.challenger) == ("sft", "sft")
    assert _aliases(client)["champion"] == _aliases(client)["sft"] == first.versions["sft"]

    version = client.get_model_version_by_alias("grandrounds", "champion")
    assert version.tags["output_md5"] == project.md5("models/adapters/generalist")
    assert version.tags["data_md5"] == project.md5("data/curated/train.parquet")
    assert (version.tags["val.accuracy"], version.tags["test.accuracy"]) == ("0.9", "0.8")
    assert "unseen.accuracy" not in version.tags  # unscored is not zero
    assert version.tags["commit"] == "c0ffee" and version.description.startswith("# SFT")
    run = client.get_run(version.run_id)
    assert run.data.tags["output:models/adapters/generalist"] == version.tags["output_md5"]
    assert {each.dataset.name: each.dataset.digest for each in run.inputs.dataset_inputs} == {
        path: project.md5(path) for path in ("data/curated/train.parquet", "models/base")
    }
    assert [metric.step for metric in client.get_metric_history(run.info.run_id, "loss")] == [0, 2]  # nan is a gap
    assert [each.model_id for each in run.outputs.model_outputs] == [version.source.rsplit("/", 1)[-1]]

    folder = Path(mlflow.artifacts.download_artifacts("models:/grandrounds@champion", dst_path="down"))
    assert (folder / "weights.safetensors").read_text() == "generalist on base weights"
    assert project.md5("models/base") in (folder / "dvc.json").read_text()
    folder = Path(mlflow.artifacts.download_artifacts("models:/grandrounds@base", dst_path="down_base"))
    assert not (folder / "weights.safetensors").exists()  # full weights stay in DVC
    assert "dvc pull models/base" in (folder / "dvc.json").read_text()

    again = registry.publish(project.params, project.scores(**VAL), CARDS)
    assert again.new == () and again.versions == first.versions
    assert len(client.search_runs([experiment])) == 5

    # another best arm: the challenger moves, the champion waits for a person
    third = registry.publish(project.params, project.scores(base=0.4, sft=0.9, pediatrics=0.95, experts=0.9), CARDS)
    assert (third.champion, third.challenger) == ("sft", "pediatrics")
    assert _aliases(client)["challenger"] == first.versions["pediatrics"]

    # other bytes of one arm are a new version of that arm alone; the champion stays the old one
    project.stage("adapt@generalist", ["models/base"], {"models/adapters/generalist": "trained anew"})
    fourth = registry.publish(project.params, project.scores(**VAL), CARDS)
    assert fourth.new == ("sft",) and fourth.versions["sft"] == "5"
    assert _aliases(client)["sft"] == "5" and fourth.champion_version == first.versions["sft"]


def test_an_experiment_moves_nothing(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    project.pipeline()
    monkeypatch.setenv("DVC_EXP_NAME", "sly-fox")
    assert registry.publish(project.params, project.scores(**VAL), CARDS).versions == {}
    client, experiment = store.connect()
    assert client.search_registered_models() == []
    assert len(client.search_runs([experiment])) == 5


def test_a_stage_run_by_hand_is_not_tagged_with_the_locks_md5(project: Any) -> None:
    """Its run.json is not the one in dvc.lock, so what it wrote is unknown."""
    project.pipeline()
    record = project.root / "reports/merge/experts/run.json"
    record.write_text(record.read_text().replace('"seconds": 1.5', '"seconds": 2.5'))
    registry.publish(project.params, project.scores(**VAL), CARDS)
    client, experiment = store.connect()
    (run,) = client.search_runs([experiment], "attributes.run_name = 'merge@experts'")
    assert not [tag for tag in run.data.tags if tag.startswith("output:")]


def test_names_and_scores_that_cannot_be_published(project: Any) -> None:
    raw = project.params.model_dump(mode="json")
    raw["predict"]["arms"]["champion"] = raw["predict"]["arms"]["sft"]
    with pytest.raises(UserError, match=r"predict\.arms\.champion"):
        registry.publish(check(raw), project.scores(**VAL), CARDS)
    with pytest.raises(UserError, match="no arm has an accuracy on 'val'"):
        registry.best_arm(project.params, {"sft": {"val": {"accuracy": None}}})


def test_missing_weights_leave_no_version(project: Any) -> None:
    project.pipeline()
    shutil.rmtree(project.root / "models/merged/experts")
    with pytest.raises(UserError, match=r"models/merged/experts: missing.*dvc checkout"):
        registry.publish(project.params, project.scores(**VAL), CARDS)
    assert store.connect()[0].search_registered_models() == []


def test_every_version_says_what_its_licences_allow(project: Any) -> None:
    """Unknown without curate's account; one closed source closes all; a version keeps its number when it is learnt."""
    project.pipeline()
    first = registry.publish(project.params, project.scores(**VAL), CARDS)
    client, _ = store.connect()

    def licences(arm: str) -> dict[str, str]:
        tags = client.get_model_version("grandrounds", first.versions[arm]).tags
        return {key.removeprefix("licence."): value for key, value in tags.items() if key.startswith("licence.")}

    unknown = {"use": "research only", "base": "Apache-2.0"} | dict.fromkeys(
        ("data", "redistribute", "derivatives"), "unknown"
    )
    assert all(licences(arm) == unknown for arm in VAL)
    free = {"licence": "Apache-2.0", "redistribute": True, "derivatives": True}
    closed = {"licence": "not stated", "redistribute": False, "derivatives": True}
    audit = {"sources": {"embedded": free, "own": closed}}
    files.write_json(project.root / "reports/curate/metrics.json", audit)
    assert registry.publish(project.params, project.scores(**VAL), CARDS).versions == first.versions
    known = {"data": "embedded: Apache-2.0; own: not stated", "redistribute": "no", "derivatives": "yes"}
    assert all(licences(arm) == unknown | known for arm in VAL)
