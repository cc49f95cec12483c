"""MLflow's server on PostgreSQL with its artifacts on S3: the pipeline logs to it, and loses nothing when it fails.

Artifacts go through the server (`--artifacts-destination`), so that no machine of the pipeline holds
a key of the store.
"""

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer

import pytest
import yaml
from mlflows import Mlflow
from processes import free_port
from projects import ROOT, copied, environment, ours

pytestmark = pytest.mark.slow
STORE = ("AWS_", "MLFLOW_S3_ENDPOINT_URL")
STAGE = """
from grandrounds.params import load
from grandrounds.tracking.stage import stage_run

with stage_run("merge", "experts", load(), inputs=["in.txt"], outputs=["models/merged/experts"]) as run:
    for step in range(40):
        run.curve(step, loss=1 / (step + 1))
    run.artifact("in.txt")
    run.finish({"rank": 32})
"""


@pytest.fixture(scope="session")
def mlflow_server(postgres, s3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mlflow]:
    found = Mlflow(postgres(), f"s3://{s3.bucket}/mlflow", tmp_path_factory.mktemp("mlflow") / "server.log")
    yield found
    found.process.kill()


def without_keys(uri: str, **more: str) -> dict[str, str]:
    """The environment of a machine that knows the server and nothing of its store."""
    plain = {name: value for name, value in environment().items() if not name.startswith(STORE)}
    return plain | {"MLFLOW_TRACKING_URI": uri, "OMP_NUM_THREADS": "1", **more}


def awaited(ready: Callable[[], bool], running: subprocess.Popen, log: Path, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert running.poll() is None and time.monotonic() < end, log.read_text()[-4000:]
        time.sleep(0.1)


@pytest.mark.timeout(1500)
def test_the_pipeline_with_a_server_that_is_killed_twice(mlflow_server: Mlflow, postgres, s3, tmp_path: Path) -> None:
    project, log = copied(tmp_path / "grand rounds"), tmp_path / "repro.log"
    with log.open("wb") as out:
        running = subprocess.Popen(
            [sys.executable, "-m", "dvc", "repro"],
            cwd=project, env=without_keys(mlflow_server.uri), stdout=out, stderr=out, start_new_session=True,
        )  # fmt: skip
    versions = lambda: int(postgres.sql("SELECT count(*) FROM model_versions", mlflow_server.database))  # noqa: E731
    started = "SELECT count(*) FROM runs WHERE name = 'grpo@rarl' AND status = 'RUNNING'"
    for moment in (lambda: postgres.sql(started, mlflow_server.database) == "1", lambda: versions() > 0):
        awaited(moment, running, log)
        mlflow_server.process.kill()
        time.sleep(5)
        mlflow_server.again()
    assert running.wait(600) == 0, log.read_text()[-4000:]
    assert "warning: MLflow" not in log.read_text()

    everything_is_there(project, mlflow_server)
    nothing_is_half_registered(mlflow_server, s3)
    checks = json.loads(
        ours(project, "verify", "grandrounds@champion", "--json", MLFLOW_TRACKING_URI=mlflow_server.uri)
    )
    assert {each["state"] for each in checks} == {"true"}


def everything_is_there(project: Path, server: Mlflow) -> None:
    """One whole run a stage, with what its run.json and curves.csv have."""
    stages, runs = yaml.safe_load((project / "dvc.lock").read_text())["stages"], server.runs()
    assert Counter(run.info.run_name for run in runs) == Counter(stages.keys())
    assert {run.info.status for run in runs} == {"FINISHED"}
    by_id = {run.info.run_id: run for run in runs}
    client = server.client()
    for path in (project / "reports").rglob("run.json"):
        record = json.loads(path.read_text())
        run = by_id[record["mlflow_run_id"]]
        logged = {name: run.data.metrics.get(name) for name in record["metrics"]}
        assert logged == pytest.approx(record["metrics"]), path
        curves = path.with_name("curves.csv")
        if record["stage"] == "grpo":
            steps = len(curves.read_text().splitlines()) - 1
            assert len(client.get_metric_history(run.info.run_id, "reward")) == steps > 0


def nothing_is_half_registered(server: Mlflow, s3) -> None:
    client = server.client()
    versions = client.search_model_versions("name = 'grandrounds'")
    assert sorted(version.tags["arm"] for version in versions) == ["base", "experts", "mmedexpert", "rarl", "sft"]
    aliases = client.get_registered_model("grandrounds").aliases
    assert {"champion", "challenger", "sft"} <= set(aliases)
    stored = s3.keys("mlflow/")
    for version in versions:
        model = client.get_logged_model(version.source.removeprefix("models:/"))
        names = {key.rsplit("/", 1)[1] for key in stored if f"/{model.model_id}/" in key}
        assert str(model.status) == "READY" and {"MLmodel", "CARD.md", "dvc.json"} <= names
        assert version.tags["arm"] == "base" or "adapter_model.safetensors" in names


def staged(folder: Path, uri: str, **more: str) -> tuple[str, dict]:
    """One short stage in a process of its own: all that it printed, and its run.json."""
    folder.mkdir()
    (folder / "in.txt").write_text("in")
    (folder / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    (folder / "stage.py").write_text(STAGE)
    env = without_keys(uri, PYTHONPATH=str(ROOT), **more)
    done = subprocess.run(
        [sys.executable, "stage.py"], cwd=folder, env=env, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (folder / "reports/merge/experts/curves.csv").read_text().count("\n") == 41
    return done.stdout + done.stderr, json.loads((folder / "reports/merge/experts/run.json").read_text())


def warning(said: str) -> str:
    (line,) = [line for line in said.splitlines() if "warning" in line]
    assert "Traceback" not in said
    return line


def test_a_server_that_is_down(tmp_path: Path) -> None:
    uri = f"http://127.0.0.1:{free_port()}"
    said, record = staged(tmp_path / "down", uri)
    assert f"MLflow at {uri} has no whole record of this run (MLflow at {uri}: no connection; start it" in warning(said)
    assert "run.json, from which `publish` restores it" in said and record["metrics"] == {"rank": 32.0}


class _Slow(StreamRequestHandler):
    """Hands a request on after a second."""

    def handle(self) -> None:
        import socket

        with socket.create_connection(("127.0.0.1", self.server.target)) as onward:
            back = threading.Thread(target=self.copy, args=(onward, self.connection), daemon=True)
            back.start()
            self.copy(self.connection, onward, 1.0)
            back.join()

    def copy(self, source, target, wait: float = 0.0) -> None:
        import contextlib

        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                time.sleep(wait)
                target.sendall(data)
            target.shutdown(1)


def test_a_server_that_is_slow(mlflow_server: Mlflow, tmp_path: Path) -> None:
    """Every request takes a second longer: the stage waits for its record at the end, and the record is whole."""
    ThreadingTCPServer.daemon_threads = True
    with ThreadingTCPServer(("127.0.0.1", 0), _Slow) as proxy:
        proxy.target = mlflow_server.port
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        said, record = staged(tmp_path / "slow", f"http://127.0.0.1:{proxy.server_address[1]}")
        proxy.shutdown()
    assert "warning" not in said
    run = mlflow_server.client().get_run(record["mlflow_run_id"])
    assert run.info.status == "FINISHED" and run.data.metrics["rank"] == 32.0
    assert len(mlflow_server.client().get_metric_history(run.info.run_id, "loss")) == 40


class _Full(BaseHTTPRequestHandler):
    """An S3 store with no room left."""

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        text = b"<Error><Code>XStorageFull</Code><Message>Storage backend has reached its threshold.</Message></Error>"
        self.send_response(507)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        pass


def test_a_store_that_is_full(postgres, s3, tmp_path: Path) -> None:
    """Metrics still reach the database; the run is not called whole, and `restore` makes the one that is."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Full) as store:
        threading.Thread(target=store.serve_forever, daemon=True).start()
        full = f"http://127.0.0.1:{store.server_port}"
        settings = {"MLFLOW_S3_ENDPOINT_URL": full, "AWS_ENDPOINT_URL": full, "AWS_MAX_ATTEMPTS": "1"}
        server = Mlflow(postgres(), f"s3://{s3.bucket}/full", tmp_path / "full.log", **settings)
        try:
            said, record = staged(tmp_path / "full", server.uri)
            assert f"MLflow at {server.uri} has no whole record of this run" in warning(said), said
            run = server.client().get_run(record["mlflow_run_id"])
            assert run.info.status == "FAILED" and run.data.metrics["rank"] == 32.0
        finally:
            server.process.kill()
            store.shutdown()


def test_a_database_that_takes_no_more(mlflow_server: Mlflow, postgres, tmp_path: Path) -> None:
    """PostgreSQL refuses to write: one line; when it takes writes again, the record is made from run.json."""
    postgres.sql(f"ALTER DATABASE {mlflow_server.database} SET default_transaction_read_only = on")
    ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = "
    postgres.sql(f"{ended}'{mlflow_server.database}'")
    try:
        said, record = staged(tmp_path / "read-only", mlflow_server.uri)
    finally:
        postgres.sql(f"ALTER DATABASE {mlflow_server.database} RESET default_transaction_read_only")
        postgres.sql(f"{ended}'{mlflow_server.database}'")
    assert f"MLflow at {mlflow_server.uri} has no whole record" in warning(said)
    restored = subprocess.run(
        [sys.executable, "-c", "from grandrounds.tracking import history, registry, store\n"
         "client, experiment = store.connect()\n"
         "print(*registry.restore_runs(client, experiment, history.records()).values())"],
        cwd=tmp_path / "read-only", env=without_keys(mlflow_server.uri, PYTHONPATH=str(ROOT)), capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    run = mlflow_server.client().get_run(restored.stdout.split()[-1])
    assert run.info.status == "FINISHED" and run.data.metrics["rank"] == record["metrics"]["rank"]
    assert len(mlflow_server.client().get_metric_history(run.info.run_id, "loss")) == 40
