"""The whole pipeline on a reduced params.yaml, in a temporary copy of the repository, by `dvc repro` itself."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from projects import ARMS, copied, dvc, environment, ours


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copied(tmp_path_factory.mktemp("clone") / "grand rounds")


def killed_while(project: Path, stage: str) -> None:
    """`dvc repro`, killed with all its children a few seconds into a stage."""
    log = project.parent / "killed.log"
    with log.open("wb") as out:
        running = subprocess.Popen(
            [sys.executable, "-m", "dvc", "repro"],
            cwd=project, env=environment(), stdout=out, stderr=out, start_new_session=True,
        )  # fmt: skip
    end = time.monotonic() + 120
    while f"Running stage '{stage}'" not in log.read_text():
        assert running.poll() is None and time.monotonic() < end, log.read_text()
        time.sleep(0.1)
    time.sleep(3)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()


def lineage_is_true(project: Path) -> None:
    """From champion to every source by md5: as dvc.lock has it, and as the bytes are."""
    found = json.loads(ours(project, "lineage", "grandrounds@champion", "--json"))
    stages = yaml.safe_load((project / "dvc.lock").read_text())["stages"].values()
    locked = {(each["path"], each["md5"]) for stage in stages for key in ("outs", "deps") for each in stage[key]}
    told = {(each["path"], each["md5"]) for run in found["runs"] for each in run["inputs"]}
    told |= {(each["path"], each["md5"]) for each in [found["root"], *found["sources"]]}
    assert told <= locked and "data/sources" in {each["path"] for each in found["sources"]}
    assert {"curate", "base"} <= {run["name"] for run in found["runs"]}
    checks = json.loads(ours(project, "verify", "grandrounds@champion", "--json"))
    assert len(checks) > len(told) and {each["state"] for each in checks} == {"true"}


@pytest.mark.e2e
@pytest.mark.timeout(900)
def test_pipeline_survives_a_kill_runs_to_its_end_and_then_has_nothing_to_do(project: Path) -> None:
    killed_while(project, "base")
    assert not (project / "models/base").exists() and (project / "data/curated/train.parquet").is_file()

    first, _ = dvc(project, "repro")
    assert "Stage 'curate' didn't change, skipping" in first
    assert first.count("Running stage") == 1 + 2 + 1 + 6 + 2 + 3 + len(ARMS) + 2

    scores = json.loads((project / "reports/judge/metrics.json").read_text())
    assert set(scores) == set(ARMS)
    for splits in scores.values():
        assert {"val", "test", "unseen", "test_no_reasoning"} <= set(splits)
        assert 0 <= splits["test"]["low"] <= splits["test"]["accuracy"] <= splits["test"]["high"] <= 1
        assert splits["test"]["n"] == 40

    report = (project / "reports/report.html").read_text(encoding="utf-8")
    assert "never for clinical use" in report
    assert all((project / f"reports/cards/{arm}.md").is_file() for arm in ARMS)

    lineage_is_true(project)

    second, seconds = dvc(project, "repro")
    assert "Running stage" not in second and "up to date" in second
    assert seconds < 15
    assert "up to date" in dvc(project, "status")[0]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_lineage_after_an_experiment_and_back(project: Path) -> None:
    dvc(project, "repro")
    adapter, before = "models/adapters/generalist", (project / "params.yaml").read_text()
    folder, weights = project / adapter, "adapter_model.safetensors"
    first = (folder / weights).read_bytes()
    params = yaml.safe_load(before)
    params["adapt"]["items"]["generalist"]["seed_offset"] = 5
    (project / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    dvc(project, "exp", "run")
    assert (folder / weights).read_bytes() != first
    (project / "params.yaml").write_text(before)
    back, _ = dvc(project, "repro")
    assert "Stage 'adapt@generalist' is cached - skipping run" in back  # from the run cache, with its old run.json
    assert "Running stage 'adapt@" not in back and (folder / weights).read_bytes() == first
    lineage_is_true(project)
    reached = json.loads(ours(project, "lineage", "--from", "data/curated/train.parquet", "--json"))["models"]
    versions = {each["md5"]: each["versions"] for each in reached if each["path"] == adapter}
    assert sorted(map(len, versions.values())) == [0, 1]  # the experiment's is found too, and is registered nowhere

    (project / ".mlflow").rename(project.parent / "lost")  # as after a clone
    assert "versions (5 new)" in ours(project, "restore")
    lineage_is_true(project)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_filter_killed_at_twenty_moments_writes_the_same_file(project: Path) -> None:
    dvc(project, "repro", "-s", "curate")
    dvc(project, "repro", "-s", "base")
    params = yaml.safe_load((project / "params.yaml").read_text())
    params["filter"] |= {"n": 64, "keep": {"min": 1, "max": 40}, "stopping": {"type": "exact"}}
    params["filter"]["engine"]["batch"] = 32
    (project / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    command, output = [sys.executable, "-m", "tasks.filter", "text"], project / "data/filtered/text.parquet"
    begin = time.monotonic()
    subprocess.run(command, cwd=project, env=environment(), check=True, capture_output=True)
    whole, found = time.monotonic() - begin, [output.read_bytes()]
    rng = random.Random(7)
    resumed = 0
    for _ in range(20):
        output.unlink(missing_ok=True)
        running = subprocess.Popen(
            command, cwd=project, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        time.sleep(rng.uniform(0.3, 1.0) * whole)
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
        if output.exists():  # it was done before the kill
            found.append(output.read_bytes())
            continue
        resumed += any((project / ".scratch/samples/filter-text").glob("*.jsonl"))
        if rng.random() < 0.5:  # else the next one goes on, and is killed as well
            subprocess.run(command, cwd=project, env=environment(), check=True, capture_output=True)
            found.append(output.read_bytes())
    subprocess.run(command, cwd=project, env=environment(), check=True, capture_output=True)
    assert set(found) | {output.read_bytes()} == {found[0]} and resumed > 5
