"""A Prefect server for one run of the flow, where no other is there: `python -m flows.server PORT`.

Prefect's own temporary server shares the terminal's process group, so that Ctrl-C ends it before the flow can tell it
how the run ended, which then waits and prints tracebacks. This one is in a session of its own, and leaves when its
parent does, however that ends: it watches the pipe that is its standard input.
"""

import atexit
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from flows.settings import SCRATCH, answers
from grandrounds.errors import UserError

HOST = "127.0.0.1"
PATIENCE = 180.0  # seconds; about 8 on two idle cores, more on a busy machine or a slow disk


def start_temporary_server(root: Path) -> Callable[[], None]:
    """Start a server that lives as long as this process, point PREFECT_API_URL at it, and return the wait for it.

    Call before Prefect is imported: that takes seconds too, which pass meanwhile on another core; and Prefect's exit
    handlers, which hand over the last events and log lines, then come before the one that stops the server.
    Where PREFECT_API_URL is set already, nothing is started.
    """
    if os.environ.get("PREFECT_API_URL"):
        return lambda: None
    port = free_port()
    log = root / SCRATCH / "logs" / "prefect-server.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.server", str(port)],
            cwd=root,
            env={**os.environ, "PYTHONPATH": _python_path()},
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    atexit.register(stop, process)
    os.environ["PREFECT_API_URL"] = f"http://{HOST}:{port}/api"
    return lambda: wait_for(f"http://{HOST}:{port}/api/health", process, log)


def _python_path() -> str:
    """This project's folder first: the server may be started from another folder than that of the code."""
    here = str(Path(__file__).resolve().parent.parent)
    return os.pathsep.join(part for part in (here, os.environ.get("PYTHONPATH", "")) if part)


def wait_for(address: str, process: "subprocess.Popen[bytes]", log: Path, patience: float = PATIENCE) -> None:
    """Until the server answers; UserError when it ends or takes too long."""
    end = time.monotonic() + patience
    while not answers(address):
        if process.poll() is not None:
            raise UserError(f"a server ended with exit code {process.returncode} before it answered; see {log}")
        if time.monotonic() > end:
            raise UserError(f"a server did not answer at {address} within {patience:.0f} s; see {log}")
        time.sleep(0.1)


def stop(process: "subprocess.Popen[bytes]", patience: float = 5.0) -> None:
    """End a process that leads its own session, and its children."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(timeout=patience)
        except subprocess.TimeoutExpired:
            continue
    process.wait()


def free_port(wanted: int = 0) -> int:
    """`wanted` if nothing listens there, else any free port on loopback."""
    for port in (wanted, 0):
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((HOST, port))
            except OSError:
                continue
            return int(listener.getsockname()[1])
    raise UserError(f"no free port on {HOST}")


def main(port: int) -> None:
    """Serve Prefect's API, without its pages, until told to stop or until the parent is gone."""
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    import uvicorn
    from prefect.server.api.server import create_app

    uvicorn.run(create_app(ephemeral=True, final=True), host=HOST, port=port, log_level="error", lifespan="on")


def _leave_with_parent() -> None:
    while sys.stdin.buffer.read(1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(5)
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]))
