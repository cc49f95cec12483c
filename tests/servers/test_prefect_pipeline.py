"""The reduced pipeline by a schedule of a real Prefect server, and what its UI shows of it in a real browser."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import chromium
import pytest
import yaml
from mlflows import Mlflow
from prefects import Site
from projects import copied

pytestmark = [pytest.mark.slow, pytest.mark.e2e, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("scheduled")
    mlflow = Mlflow(f"sqlite:///{folder / 'mlflow.db'}", (folder / "artifacts").as_uri(), folder / "mlflow.log")
    try:
        found = Site(copied(folder / "grand rounds"), folder / "home", f"sqlite+aiosqlite:///{folder / 'prefect.db'}")
        try:
            found.env["MLFLOW_TRACKING_URI"] = mlflow.uri.replace("//", "//ann:s3cret@")
            with found.work():
                yield found
        finally:
            found.stop()
    finally:
        mlflow.process.kill()


@pytest.fixture(scope="module")
def run(site: Site) -> str:
    """A run that a schedule of one date, two seconds ahead, has started."""
    deployment = site.deployment("reproduce")["id"]
    site.post(f"/deployments/{deployment}/schedules", [{"active": True, "schedule": {"rrule": _once()}}])
    mine = {"deployments": {"id": {"any_": [deployment]}}}
    site.until(lambda: site.post("/flow_runs/filter", mine), 60, "nothing was scheduled")
    [found] = site.post("/flow_runs/filter", mine)
    assert found["auto_scheduled"] and site.ended(found["id"], 1000)["type"] == "COMPLETED", site.logs(found["id"])
    return found["id"]


def _once() -> str:
    begin = time.strftime("%Y%m%dT%H%M%S", time.gmtime(time.time() + 5))
    return f"DTSTART:{begin}\nRRULE:FREQ=YEARLY;COUNT=1"


def test_its_task_runs_are_the_stages_of_dvc(site: Site, run: str) -> None:
    locked = yaml.safe_load((site.project / "dvc.lock").read_text())["stages"]
    assert site.tasks(run) == dict.fromkeys(locked, "Completed")
    left, address = site.artifacts(run), site.env["MLFLOW_TRACKING_URI"].replace("ann:s3cret@", "")
    for name, stage in locked.items():
        [row] = [line for line in left["stages"].splitlines() if line.startswith(f"| {name} |")]
        outs = [out["md5"] for out in stage["outs"] if not out["path"].startswith("reports/")]
        assert all(md5 in row for md5 in outs)
        [(link, shown)] = re.findall(r"\[(\w{8})\]\(([^)]*)\)", row)
        run_id = shown.rpartition("/runs/")[2]
        assert run_id.startswith(link) and f"{shown.partition('/#/')[0]}" == address
        with urlopen(f"{address}/api/2.0/mlflow/runs/get?run_id={run_id}", timeout=10) as reply:
            assert json.load(reply)["run"]["info"]["run_name"] == name
    assert "s3cret" not in left["stages"]
    assert left["report"] == (site.project / "reports" / "report.md").read_text()
    assert "up to date" in site.dvc("status")


@pytest.mark.skipif(chromium.CHROMIUM is None, reason="no Chromium")
def test_the_browser_shows_the_run_the_form_and_the_deployments(site: Site, run: str, tmp_path: Path) -> None:
    places = {
        "run": (f"/runs/flow-run/{run}", 900, "23 Task runs"),  # their names are drawn, not text
        "form": (f"/deployments/deployment/{site.deployment('recipe')['id']}/run", 1000, "Whole settings of recipes/"),
        "deployments": ("/deployments", 540, "rerun-all"),
    }
    with chromium.page(tmp_path / "profile") as page:
        for name, (place, height, wanted) in places.items():
            page.open(site.address + place, height=height)
            shown = "document.body.innerText"
            for _ in range(60):
                if wanted in page.run(shown):
                    break
                time.sleep(0.5)
            time.sleep(5)  # the graph comes in later
            page.picture(tmp_path / f"prefect-{name}.png")
            assert wanted in page.run(shown), f"{name}: {page.run(shown)[:2000]}"
