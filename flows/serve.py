"""Long-running services: the two web pages of `grandrounds ui`, and the flow on a schedule."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from flows.server import HOST, free_port, stop, wait_for
from flows.settings import SCRATCH, SERVERS, prepare
from grandrounds.errors import UserError
from grandrounds.files import write_json


def ui(root: Path, prefect_port: int = 4200, mlflow_port: int = 5000) -> None:
    """Start Prefect's and MLflow's servers on loopback, print both addresses, and wait for Ctrl-C.

    A port that is taken is replaced by a free one. While they run, `grandrounds run` in this project uses this server.
    """
    prepare(root)
    if address := os.environ.get("PREFECT_API_URL"):
        raise UserError(f"a Prefect server is in use already: {address.removesuffix('/api')} (PREFECT_API_URL)")
    processes: dict[str, subprocess.Popen[bytes]] = {}
    addresses: dict[str, str] = {}
    commands = {"prefect": _prefect(free_port(prefect_port)), "mlflow": _mlflow(root, free_port(mlflow_port))}
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        for name, (port, command, _) in commands.items():
            addresses[name] = f"http://{HOST}:{port}"
            processes[name] = _start(root, name, addresses[name], command)
        print("starting the Prefect and MLflow servers ...", flush=True)
        for name, (_, _, health) in commands.items():
            wait_for(addresses[name] + health, processes[name], _log(root, name))
        write_json(root / SERVERS, {**addresses, "pid": os.getpid()})
        print(f"Prefect  {addresses['prefect']}   runs, schedules, logs of the flow")
        print(f"MLflow   {addresses['mlflow']}   experiments, metrics, the model registry")
        print("Ctrl-C stops both.", flush=True)
        _watch(root, processes)
    except KeyboardInterrupt:
        print("\nstopping both servers", flush=True)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        (root / SERVERS).unlink(missing_ok=True)
        for process in processes.values():
            stop(process)
        signal.signal(signal.SIGTERM, before)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _watch(root: Path, processes: "dict[str, subprocess.Popen[bytes]]") -> None:
    while True:
        for name, process in processes.items():
            if process.poll() is not None:
                raise UserError(f"the {name} server ended with exit code {process.returncode}; see {_log(root, name)}")
        time.sleep(1)


def _prefect(port: int) -> tuple[int, list[str], str]:
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", HOST, "--port", str(port)]
    return port, command, "/api/health"


def _mlflow(root: Path, port: int) -> tuple[int, list[str], str]:
    from grandrounds.tracking.store import connect, tracking_uri

    uri = tracking_uri()
    if uri.startswith("http"):
        raise UserError(f"MLflow is served already: {uri} (MLFLOW_TRACKING_URI)")
    connect()  # the database and the experiment, so that the page is not empty before the first stage
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri, "--host", HOST]
    return port, [*command, "--port", str(port), "--workers", "1"], "/health"


def _start(root: Path, name: str, address: str, command: list[str]) -> "subprocess.Popen[bytes]":
    """In a session of its own: Ctrl-C reaches this process only, which then stops both in order."""
    log = _log(root, name)
    log.parent.mkdir(parents=True, exist_ok=True)
    env = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    env["PREFECT_SERVER_UI_API_URL"] = f"{address}/api"  # else Prefect's pages ask port 4200, whatever their own is
    with log.open("wb") as out:
        return subprocess.Popen(
            command,
            cwd=root,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _log(root: Path, name: str) -> Path:
    return root / SCRATCH / "logs" / f"{name}-server.log"


def serve(root: Path, cron: str | None = None, workers: int = 2) -> None:
    """Serve the flow from this process until Ctrl-C: on demand from the Prefect UI and, with `cron`, on schedule.

    The schedule is not paused when this ends: runs that fall due meanwhile start when it serves again.
    """
    prepare(root)
    if not os.environ.get("PREFECT_API_URL"):
        raise UserError("no Prefect server: start one with `grandrounds ui`, or set PREFECT_API_URL")
    from flows.pipeline import pipeline

    pipeline.serve(
        name="served",
        cron=cron,
        parameters={"workers": workers, "force": False},
        tags=["grandrounds"],
        limit=1,
        pause_on_shutdown=False,
    )
