"""Prefect for real, on sqlite and on PostgreSQL: server, worker, the deployments of prefect.yaml, a DVC project."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prefects import STAGES, Site, toy

from flows.turn import LOCK

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "sqlite":
        database = f"sqlite+aiosqlite:///{folder / 'prefect.db'}"
    else:
        database = request.getfixturevalue("postgres")("postgresql+asyncpg")
    found = Site(toy(folder / "a toy with spaces"), folder / "home", database)
    try:
        with found.work():
            yield found
    finally:
        found.stop()


@pytest.fixture
def slow(site: Site) -> Iterator[Path]:
    """What is written here, `STAGE SECONDS`, makes a stage sleep."""
    yield site.project / "slow"
    for name in ("slow", "sleeping"):
        (site.project / name).unlink(missing_ok=True)


def test_a_schedule_starts_runs_by_itself_and_the_second_finds_nothing_changed(site: Site) -> None:
    nightly = site.deployment("refresh-data")
    assert [each["schedule"]["cron"] for each in nightly["schedules"]] == ["0 1 * * *"]
    path = f"/deployments/{nightly['id']}/schedules"
    [added] = site.post(path, [{"active": True, "schedule": {"interval": 5}}])
    done = {"deployments": {"id": {"any_": [nightly["id"]]}}, "flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}}
    done["sort"] = "START_TIME_ASC"
    try:
        site.until(lambda: len(site.post("/flow_runs/filter", done)) > 1, what="no two scheduled runs completed")
    finally:
        site.delete(f"{path}/{added['id']}")
    first, second = site.post("/flow_runs/filter", done)[:2]
    assert first["auto_scheduled"] and second["auto_scheduled"]
    assert site.tasks(first["id"]) == dict.fromkeys(STAGES, "Completed")
    assert first["state"]["message"] == "4 ran"
    assert site.tasks(second["id"]) == {} and second["state"]["name"] == "Unchanged"
    assert second["state"]["message"] == "nothing changed: 4 stages are as dvc.lock says, none was run"


def test_a_run_leaves_its_stages_with_their_md5_and_its_progress(site: Site) -> None:
    run = site.run("reproduce", stages=["filter"], force=True)
    assert site.ended(run)["message"] == "3 ran"
    left = site.artifacts(run)
    locked = yaml.safe_load((site.project / "dvc.lock").read_text())["stages"]
    for name in ("curate", "filter@text", "filter@image_text"):
        [row] = [line for line in left["stages"].splitlines() if line.startswith(f"| {name} |")]
        assert " ran " in row and locked[name]["outs"][0]["md5"] in row
    assert left["progress"] == 100


def test_the_server_refuses_what_the_form_does_not_offer(site: Site) -> None:
    form = site.deployment("reproduce")["parameter_openapi_schema"]["properties"]
    assert set(form["stages"]["items"]["enum"]) == STAGES | {"filter"} and "cores" in form["workers"]["description"]
    assert site.deployment("recipe")["parameter_openapi_schema"]["properties"]["recipe"]["enum"] == [
        "embedded",
        "other",
    ]
    for wrong in ({"stages": ["grpo"]}, {"workers": 0}, {"force": "perhaps"}):
        with pytest.raises(OSError, match="409"):
            site.run("reproduce", **wrong)


def test_a_cancelled_run_ends_its_stage_and_frees_dvc(site: Site, slow: Path) -> None:
    slow.write_text("filter@text 300")
    run = site.run("reproduce", force=True)
    sleeping = site.project / "sleeping"
    site.until(lambda: sleeping.exists() and sleeping.read_text(), what="the stage did not start")
    site.cancel(run)
    assert site.ended(run, 60)["type"] == "CANCELLED"
    assert not Path("/proc", sleeping.read_text()).exists(), "the stage is still running"
    assert site.tasks(run)["filter@text"] == "Cancelled"
    assert_free(site)
    slow.unlink()
    site.dvc("status")
    assert site.ended(site.run("reproduce"))["type"] == "COMPLETED"
    assert "up to date" in site.dvc("status")


def assert_free(site: Site) -> None:
    """Nobody holds a lock of DVC's."""
    held = json.loads((site.project / ".dvc/tmp/rwlock").read_text())
    assert not held.get("write") and not any(held.get("read", {}).values())
    site.dvc("status")


def test_a_run_is_cancelled_while_a_stage_waits_for_the_gpu(site: Site, slow: Path) -> None:
    slow.write_text("filter 300")  # both items; they would run beside each other
    site.prefect("concurrency-limit", "create", "gpu", "1")
    try:
        with site.params(("device: auto", "device: cuda")):
            run = site.run("reproduce", stages=["filter"], force=True)
            site.until((site.project / "sleeping").exists, what="the stage did not start")
            site.until(lambda: len(site.tasks(run)) == 3, what="the other item was not submitted")
            time.sleep(5)  # it would have begun, were there a slot
            assert sorted(site.tasks(run).values()) == ["Completed", "Pending", "Running"]  # curate is done
            site.cancel(run)
            assert site.ended(run, 60)["type"] == "CANCELLED"
    finally:
        site.prefect("concurrency-limit", "delete", "gpu")
    assert not Path("/proc", (site.project / "sleeping").read_text()).exists(), "the stage is still running"
    assert_free(site)


def test_a_run_is_cancelled_while_a_stage_waits_to_be_tried_again(site: Site) -> None:
    endpoint = '{type: openai, endpoints: ["http://127.0.0.1:9/v1"]}'
    unanswered = site.project / "unanswered"
    unanswered.touch()
    try:
        with site.params(("teacher: {type: transformers, batch: 256, memory: 2.0}", f"teacher: {endpoint}")):
            run = site.run("reproduce", force=True)
            site.until(lambda: site.tasks(run).get("distill") == "AwaitingRetry", what="distill is not to be retried")
            site.until(lambda: "no endpoint answers" in site.logs(run), what="the log does not say why")
            site.cancel(run)
            assert site.ended(run, 60)["type"] == "CANCELLED"
    finally:
        unanswered.unlink()
    assert_free(site)


def test_of_two_at_once_the_second_waits_and_says_for_whom(site: Site, slow: Path) -> None:
    slow.write_text("curate 30")  # longer than a flow takes to start beside other work
    first = site.run("reproduce", force=True)
    site.until((site.project / LOCK.with_name("run.json")).exists, what="the first did not start")
    second = site.run("rerun-all")
    assert site.ended(first)["type"] == "COMPLETED"
    assert site.ended(second)["message"] == "4 ran"
    assert f"another run is at work in this folder (run {site.get(f'/flow_runs/{first}')['name']}" in site.logs(second)
    ends, starts = (site.get(f"/flow_runs/{first}")["end_time"], _first_task(site, second))
    assert ends[:19] <= starts[:19], "both were at work at once"
    assert "up to date" in site.dvc("status")


def _first_task(site: Site, run: str) -> str:
    return min(each["start_time"] for each in site.post("/task_runs/filter", {"flow_runs": {"id": {"any_": [run]}}}))


def test_a_recipe_is_an_experiment_and_leaves_the_folder_alone(site: Site) -> None:
    before = {name: (site.project / name).read_bytes() for name in ("params.yaml", "dvc.lock", "out/distill.txt")}
    run = site.run("recipe", recipe="other", experiment="trial")
    assert site.ended(run)["message"].startswith("experiment trial: 4 ran")
    assert {name: (site.project / name).read_bytes() for name in before} == before
    assert "trial" in site.dvc("exp", "list", "--name-only")
    [seeds] = json.loads(site.dvc("exp", "diff", "HEAD", "trial", "--json"))["params"].values()
    assert (seeds["seed"]["old"], seeds["seed"]["new"]) == (7, 8)
    assert "| distill | ran |" in site.artifacts(run)["experiment"]
    again = site.ended(site.run("recipe", recipe="other", experiment="trial"))
    assert again["type"] == "FAILED" and "experiment 'trial' is there already" in again["message"]


def test_variants_for_docker_and_kubernetes_deploy(site: Site) -> None:
    template = "deploy/prefect/kubernetes-job.json"
    site.prefect("work-pool", "create", "grandrounds-docker", "--type", "docker")
    site.prefect(
        "work-pool", "create", "grandrounds-kubernetes", "--type", "kubernetes", "--base-job-template", template
    )
    folder, image = str(site.project), "registry.example.org/grandrounds:1"
    site.prefect("deploy", "--all", "--prefect-file", "deploy/prefect/docker.yaml", GRANDROUNDS_PROJECT=folder)
    site.prefect("deploy", "--all", "--prefect-file", "deploy/prefect/kubernetes.yaml", GRANDROUNDS_IMAGE=image)
    assert site.deployment("reproduce-docker")["job_variables"]["volumes"] == [f"{folder}:/project"]
    assert site.deployment("reproduce-kubernetes")["job_variables"]["image"] == image
