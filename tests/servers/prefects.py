"""A Prefect server, a worker and this project's deployments, over a small DVC project: all real processes."""

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from processes import Process, free_port

ROOT = Path(__file__).parents[2]
PREFECT = [sys.executable, "-m", "prefect"]
START, RUN = 180.0, 120.0  # seconds of patience, on a machine that others use too

# stages of the names that prefect.yaml has, which take a second instead of minutes
DAG = """
stages:
  curate:
    cmd: python step.py curate
    params: [seed]
    outs: [out/curate.txt]
  filter:
    foreach: ${filter.items}
    do:
      cmd: python step.py filter@${key}
      deps: [out/curate.txt]
      outs: ["out/filter@${key}.txt"]
  distill:
    cmd: python step.py distill
    deps: [out/filter@text.txt, out/filter@image_text.txt]
    outs: [out/distill.txt]
"""
STAGES = {"curate", "filter@text", "filter@image_text", "distill"}
STEP = """
import os, sys, time
from pathlib import Path

name, slow, home = sys.argv[1], Path("slow"), Path(os.environ.get("DVC_ROOT") or ".")
if Path("unanswered").exists() and name == "distill":
    sys.exit("error: distill.teacher: no endpoint answers")
if slow.exists() and name.startswith(slow.read_text().split()[0]):
    Path("sleeping").write_text(str(os.getpid()))
    time.sleep(float(slow.read_text().split()[1]))
seed = next(line for line in Path("params.yaml").read_text().splitlines() if line.startswith("seed:"))
Path("out").mkdir(exist_ok=True)
Path("out", name + ".txt").write_text(seed + name)
with open(home / "trace", "a") as file:
    print(name, file=file)
"""


def toy(folder: Path) -> Path:
    """A committed DVC project with this repository's flows, prefect.yaml and default parameters."""
    folder.mkdir(parents=True)
    (folder / "dvc.yaml").write_text(DAG)
    (folder / "step.py").write_text(STEP)
    (folder / "flows").symlink_to(ROOT / "flows")
    (folder / "recipes").mkdir()
    embedded = (ROOT / "recipes" / "embedded.yaml").read_text()
    (folder / "params.yaml").write_text(embedded)
    (folder / "recipes" / "embedded.yaml").write_text(embedded)
    (folder / "recipes" / "other.yaml").write_text(embedded.replace("seed: 7", "seed: 8"))
    shutil.copy(ROOT / "prefect.yaml", folder)
    shutil.copytree(ROOT / "deploy" / "prefect", folder / "deploy" / "prefect")
    (folder / ".gitignore").write_text(".scratch/\ntrace\nsleeping\nslow\nunanswered\nout/\n")
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@localhost"]
    for command in (
        ["git", "init", "-q"],
        [sys.executable, "-m", "dvc", "init", "-q"],
        [*git, "add", "-A"],
        [*git, "commit", "-qm", "toy"],
    ):
        subprocess.run(command, cwd=folder, check=True)
    return folder


def environment(home: Path) -> dict[str, str]:
    """Ours, without what the caller's Prefect, DVC and MLflow are set to."""
    foreign = ("PREFECT_", "DVC_", "MLFLOW_")
    env = {key: value for key, value in os.environ.items() if not key.startswith(foreign)}
    path = os.pathsep.join([str(ROOT), *filter(None, [env.get("PYTHONPATH")])])
    return env | {
        "PYTHONPATH": path, "PREFECT_HOME": str(home), "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PATH": f"{Path(sys.executable).parent}:{env['PATH']}", "NO_COLOR": "1", "COLUMNS": "200",
        "DVC_NO_ANALYTICS": "1", "OMP_NUM_THREADS": "1", "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1",
        "PREFECT_WORKER_QUERY_SECONDS": "1", "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "2",
        "GIT_AUTHOR_NAME": "test", "GIT_AUTHOR_EMAIL": "test@localhost",
        "GIT_COMMITTER_NAME": "test", "GIT_COMMITTER_EMAIL": "test@localhost",
    }  # fmt: skip


class Site:
    """A project with its deployments on a running Prefect server. Call :meth:`work` for a worker."""

    def __init__(self, project: Path, home: Path, database: str) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.project, self.home, port = project, home, free_port()
        self.address = f"http://127.0.0.1:{port}"
        self.env = environment(home) | {"PREFECT_API_URL": f"{self.address}/api"}
        env = self.env | {"PREFECT_SERVER_DATABASE_CONNECTION_URL": database}
        command = [*PREFECT, "server", "start", "--host", "127.0.0.1", "--port", str(port)]
        self.server = Process(command, home / "server.log", env, home)
        self.server.wait_for(self._answers, START)
        self.prefect("work-pool", "create", "grandrounds", "--type", "process")
        self.prefect("deploy", "--all")
        [step] = self.deployment("reproduce")["pull_steps"]
        assert list(step.values()) == [{"directory": str(project)}], "runs would work in another folder"

    def _answers(self) -> bool:
        try:
            return self.get("/health") is True
        except OSError:
            return False

    def prefect(self, *words: str, **variables: str) -> str:
        done = subprocess.run(
            [*PREFECT, "--no-prompt", *words],
            cwd=self.project,
            env=self.env | variables,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def dvc(self, *words: str) -> str:
        command = [sys.executable, "-m", "dvc", *words]
        done = subprocess.run(command, cwd=self.project, env=self.env, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def get(self, path: str) -> Any:
        return self._ask(path, None, "GET")

    def post(self, path: str, body: Any) -> Any:
        return self._ask(path, body, "POST")

    def delete(self, path: str) -> None:
        self._ask(path, None, "DELETE")

    def _ask(self, path: str, body: Any, method: str) -> Any:
        request = urllib.request.Request(
            f"{self.address}/api{path}", json.dumps(body).encode() if body is not None else None,
            {"content-type": "application/json"}, method=method,
        )  # fmt: skip
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        for _ in range(20):
            try:
                with opener.open(request, timeout=30) as reply:
                    return json.loads(reply.read() or b"null")
            except urllib.error.HTTPError as error:
                if error.code != 503:  # sqlite is locked; Prefect's own clients ask again too
                    raise
                time.sleep(0.5)
        raise AssertionError(f"{method} {path}: 503 twenty times")

    def cancel(self, run: str) -> None:
        """As the UI does it."""
        self.post(f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}})

    @contextmanager
    def params(self, *changes: tuple[str, str]) -> Iterator[None]:
        """Other text in params.yaml, for a while; no stage of the project depends on it."""
        path = self.project / "params.yaml"
        before = text = path.read_text()
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        path.write_text(text)
        try:
            yield
        finally:
            path.write_text(before)

    @contextmanager
    def work(self) -> Iterator[None]:
        """A `prefect worker` in the project folder."""
        command = [*PREFECT, "worker", "start", "--pool", "grandrounds", "--limit", "3"]
        worker = Process(command, self.home / "worker.log", self.env, self.project)
        try:
            yield
        finally:
            worker.kill()

    def deployment(self, name: str) -> dict[str, Any]:
        flow = "grandrounds-recipe" if name.startswith("recipe") else "grandrounds"
        return self.get(f"/deployments/name/{flow}/{name}")

    def run(self, name: str, **parameters: Any) -> str:
        """Start a run of a deployment, as the form of the UI does. Its id."""
        told = {"parameters": parameters, "state": {"type": "SCHEDULED"}}
        return self.post(f"/deployments/{self.deployment(name)['id']}/create_flow_run", told)["id"]

    def state(self, run: str) -> dict[str, Any]:
        return self.get(f"/flow_runs/{run}")["state"]

    def ended(self, run: str, seconds: float = RUN) -> dict[str, Any]:
        """The state in which a run ended."""
        over = ("COMPLETED", "FAILED", "CANCELLED", "CRASHED")
        self.until(lambda: self.state(run)["type"] in over, seconds, f"run {run}: {self.state(run)}")
        return self.state(run)

    def until(self, ready: Callable[[], Any], seconds: float = RUN, what: str = "") -> None:
        end = time.monotonic() + seconds
        while not ready():
            assert time.monotonic() < end, f"{what}\n{(self.home / 'worker.log').read_text()[-6000:]}"
            time.sleep(0.3)

    def tasks(self, run: str) -> dict[str, str]:
        """Name of each task run -> the name of its state; one that was only just made has none."""
        found = self.post("/task_runs/filter", {"flow_runs": {"id": {"any_": [run]}}})
        return {each["name"]: each["state"]["name"] for each in found if each["state"]}

    def logs(self, run: str) -> str:
        found = self.post("/logs/filter", {"logs": {"flow_run_id": {"any_": [run]}}, "sort": "TIMESTAMP_ASC"})
        return "\n".join(each["message"] for each in found)

    def artifacts(self, run: str) -> dict[str, Any]:
        """Key -> data, of the newest of each."""
        found = self.post("/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run]}}, "sort": "UPDATED_DESC"})
        return {each["key"]: each["data"] for each in reversed(found)}

    def stop(self) -> None:
        self.server.kill()
