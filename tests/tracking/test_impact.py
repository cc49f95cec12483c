"""From bytes up to models, and everything in reach hashed anew, on the toy project."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from grandrounds import cli, files
from grandrounds.errors import UserError
from grandrounds.records import Question
from grandrounds.tracking import impact, lineage, lock, registry, verifying

VAL = {"base": 0.4, "sft": 0.5, "experts": 0.9}


def question(split: str, group: str) -> Question:
    text = dict.fromkeys(("specialty", "topic", "question", "label", "explanation", "conclusion", "image"), "")
    return Question(
        id=f"{split} {group}", source="toy", split=split, group=group, modality="text", kind="open_ended",
        options=[], answer="yes", synonyms=[], key_facts=[], **text,
    )  # fmt: skip


def curate(project: Any, train: list[str], val: list[str]) -> None:
    """A curate run over a source folder of two files, which lists them as a stage does."""
    made = {"train": train, "val": val}
    outputs = {f"data/curated/{split}.parquet": "" for split in made}
    for split, groups in made.items():
        files.write(f"data/curated/{split}.parquet", [question(split, group) for group in groups], Question)
    bytes_of = {path: (project.root / path).read_bytes() for path in outputs}
    write = project.write
    project.write = lambda path, text: (project.root / path).write_bytes(bytes_of[path])
    folder = {"data/sources": project.md5("data/sources")}
    record = project.stage("curate", ["data/sources"], outputs, folder)
    project.write = write
    run = project.root / "reports/curate/run.json"
    listed = {
        lock.plain(path.relative_to(project.root)): lock.file_md5(path)
        for path in lock.listed(project.root / "data/sources")
    }
    run.write_text(json.dumps({**record, "sources": listed}))
    lock_file = project.root / "dvc.lock"
    rows = project.stages["curate"]["outs"]
    rows[-1]["md5"] = project.md5("reports/curate/run.json")
    import yaml

    lock_file.write_text(yaml.safe_dump({"schema": "2.0", "stages": project.stages}))


@pytest.fixture
def traced(project: Any) -> Any:
    for name in ("x.csv", "y.csv"):
        project.write(f"data/sources/{name}", name)
    curate(project, ["ann", "bob"], ["cid"])
    train, val = "data/curated/train.parquet", "data/curated/val.parquet"
    project.stage("base", [train], {"models/base": "base"})
    project.stage("adapt@generalist", [train, "models/base"], {"models/adapters/generalist": "generalist"})
    project.stage("adapt@pediatrics", [train, "models/base"], {"models/adapters/pediatrics": "pediatrics"})
    project.stage("merge@experts", ["models/adapters/pediatrics"], {"models/merged/experts": "experts"})
    project.stage("grpo@rarl", [val], {"models/policies/rarl": "chosen on val alone"})
    registry.publish(project.params, project.scores(**VAL), {})
    return project


def test_every_source_file_of_the_champion_by_md5(traced: Any) -> None:
    found = lineage.walk("grandrounds", "champion")
    assert found.source_files() == {
        f"data/sources/{name}": lock.file_md5(Path("data/sources", name)) for name in ("x.csv", "y.csv")
    }
    locked = lock.read().stages["curate"].deps["data/sources"]
    assert (locked.path, locked.md5) in {(edge.path, edge.md5) for edge in found.sources()}
    shutil.rmtree("reports")  # MLflow alone has them as well
    assert lineage.walk("grandrounds", "champion").source_files() == found.source_files()


def test_which_models_were_trained_on_a_file(traced: Any) -> None:
    old = traced.md5("data/sources/x.csv")
    everything = {"models/base", "models/adapters/generalist", "models/adapters/pediatrics", "models/merged/experts"}
    found = impact.of_file("data/sources/x.csv")
    assert {each.path for each in found.reached if each.trained} >= everything
    (experts,) = (each for each in found.reached if each.path == "models/merged/experts")
    assert experts.versions == ("grandrounds version 3 (challenger, champion, experts)",)

    traced.write("data/sources/x.csv", "other rows")  # a rerun with other bytes, of the base alone
    curate(traced, ["ann", "dan"], ["cid"])
    traced.stage("base", ["data/curated/train.parquet"], {"models/base": "another base"})
    registry.publish(traced.params, traced.scores(**VAL), {})
    found = impact.of_file("data/sources/x.csv")
    notes = {md5: note for (_, md5), note in found.starts.items()}
    assert notes == {old: "other bytes than now", traced.md5("data/sources/x.csv"): "as it is now"}
    assert sum(each.path == "models/base" for each in found.reached) == 2
    assert len([each for each in impact.of_file("data/sources/y.csv").reached if each.path == "models/base"]) == 2
    with pytest.raises(UserError, match=r"unknown file of any run 'data/sources/z.csv': did you mean 'data/sources/"):
        impact.of_file("data/sources/z.csv")


def test_what_a_withdrawn_patient_means(traced: Any) -> None:
    found = impact.of_group("bob")
    assert {each.path for each in found.retrain} == {
        "models/base", "models/adapters/generalist", "models/adapters/pediatrics", "models/merged/experts",
    }  # fmt: skip
    held_out = impact.of_group("cid")
    assert held_out.retrain == [] and [each.path for each in held_out.reached] == ["models/policies/rarl"]

    curate(traced, ["ann"], ["cid"])  # bob is withdrawn; nothing is retrained yet, and his old split is in no cache
    gone = impact.of_group("ann")
    assert len(gone.unknown) == 1 and "data/curated/train.parquet" in gone.unknown[0]
    with pytest.raises(UserError, match="unknown group 'anne': did you mean 'ann'"):
        impact.of_group("anne")


def test_commands(traced: Any) -> None:
    shown = CliRunner().invoke(cli.app, ["lineage", "--from", "data/sources/x.csv"]).output
    assert "trained on it: to be retrained: 5 models" in shown and traced.md5("models/base") in shown
    plain = json.loads(CliRunner().invoke(cli.app, ["lineage", "--group", "cid", "--json"]).output)
    assert [(each["path"], each["trained"]) for each in plain["models"]] == [("models/policies/rarl", False)]
    with pytest.raises(UserError, match="needs one of"):
        CliRunner().invoke(cli.app, ["lineage", "a@b", "--group", "cid"], catch_exceptions=False)


def test_verify_finds_one_flipped_byte_wherever_it_is(traced: Any) -> None:
    (traced.root / "tasks").mkdir()

    def wrong() -> dict[str, str]:
        return {each.path: each.state for each in verifying.verify("grandrounds", "champion") if each.state != "true"}

    assert wrong() == {}
    (copy,) = (path for path in Path(".mlflow").rglob("weights.safetensors") if path.read_text() == "experts")
    for place, named in {
        "data/sources/x.csv": {"data/sources/x.csv", "data/sources"},
        "models/base/weights.safetensors": {"models/base"},
        "data/curated/train.parquet": {"data/curated/train.parquet"},
        "models/merged/experts/weights.safetensors": {"models/merged/experts"},
        str(copy): {"grandrounds version 3"},
    }.items():
        path = Path(place)
        whole = path.read_bytes()
        path.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
        assert wrong() == dict.fromkeys(named, "changed"), place
        path.write_bytes(whole)
    shutil.rmtree("models/base")
    assert wrong() == {"models/base": "missing"}
    with pytest.raises(UserError, match="1 of 8 paths are not what its records say"):
        CliRunner().invoke(cli.app, ["verify", "grandrounds@champion"], catch_exceptions=False)


def test_bytes_in_dvcs_cache_are_true_until_they_are_damaged(traced: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = traced.root / "cache"
    monkeypatch.setattr(verifying, "cache_of", lambda root: cache)
    path, md5 = Path("data/curated/train.parquet"), traced.md5("data/curated/train.parquet")
    kept = verifying.cached(md5, cache)
    kept.parent.mkdir(parents=True)
    shutil.copy(path, kept)
    path.unlink()
    state = {each.path: each for each in verifying.check(lineage.walk("grandrounds", "champion"))}
    assert (state[str(path)].state, state[str(path)].where) == ("true", "DVC cache")
    assert [each.path for each in impact.of_group("bob").retrain if each.path == "models/base"]
    kept.write_bytes(kept.read_bytes()[:-1])
    state = {each.path: each for each in verifying.check(lineage.walk("grandrounds", "champion"))}
    assert state[str(path)].state == "missing" and "other bytes" in state[str(path)].where
