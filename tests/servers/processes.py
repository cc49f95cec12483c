"""Server processes on loopback: a free port, a start that is waited for, an end that leaves nothing behind."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def listening(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Process:
    """A server in a process group of its own; `log` has what it printed."""

    def __init__(self, command: Sequence[str], log: Path, env: dict[str, str] | None = None, cwd: Path | None = None):
        self.command, self.log, self.env, self.cwd = list(command), log, env or dict(os.environ), cwd
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as out:
            self.running = subprocess.Popen(
                self.command, stdout=out, stderr=out, env=self.env, cwd=self.cwd, start_new_session=True
            )

    def wait_for(self, ready: Callable[[], bool], seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not ready():
            ended = self.running.poll()
            assert ended is None and time.monotonic() < end, (
                f"{self.command[0]} ({ended}): {self.log.read_text()[-3000:]}"
            )
            time.sleep(0.1)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """End the whole group, workers too, and wait for the first of them."""
        if self.running.poll() is None:
            os.killpg(self.running.pid, number)
            self.running.wait(30)
