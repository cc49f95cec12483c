"""What `grandrounds doctor` looks at: whether this machine and this checkout can run the pipeline, and what to mend.

Every check runs in a thread of its own and has `PATIENCE` seconds: a server that does not answer, a network folder that
hangs or a fault of the check itself is a finding like any other, and holds up none of the rest.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from grandrounds.doctor import checkout, machine, services
from grandrounds.doctor.finding import Finding
from grandrounds.errors import one_line

Check = Callable[[Path], Finding]
PATIENCE = 8.0  # seconds for all checks together, since they run beside each other

CHECKS: dict[str, Check] = {
    "Python": machine.python,
    "packages": machine.packages,
    "params.yaml": checkout.params,
    "DVC": checkout.dvc,
    "git": checkout.repository,
    "writable": checkout.writable,
    "clock": checkout.clock,
    "cores": machine.cores,
    "memory": machine.memory,
    "disk": machine.disk,
    "GPU": machine.gpu,
    "port 4200": lambda root: services.port(root, 4200, "Prefect"),
    "port 5000": lambda root: services.port(root, 5000, "MLflow"),
    "MLflow server": services.mlflow,
    "Prefect server": services.prefect,
    "DVC remote": services.remote,
    "hub": services.hub,
    "keys": services.keys,
    "telemetry": services.telemetry,
    "browser": machine.browser,
}


def examine(root: Path, online: bool = False, patience: float = PATIENCE) -> Iterator[Finding]:
    """Every check's finding, in the order of CHECKS; none raises. `online`: also whether the model hub is reachable."""
    checks = CHECKS | ({"hub reachable": services.hub_reachable} if online else {})
    answers: list[queue.SimpleQueue[Finding]] = [queue.SimpleQueue() for _ in checks]
    for (what, check), answer in zip(checks.items(), answers, strict=True):
        # a daemon: one that hangs on a dead network folder does not keep the program from ending
        threading.Thread(target=_settle, args=(answer, what, check, root), daemon=True).start()
    yield from _collected(list(checks), answers, time.monotonic() + patience, patience)


def _settle(answer: "queue.SimpleQueue[Finding]", what: str, check: Check, root: Path) -> None:
    try:
        answer.put(check(root))
    except Exception as error:  # whatever it is: the other checks still count
        problem = f"could not be looked at ({type(error).__name__}: {one_line(str(error), 200)})"
        answer.put(Finding("note", what, problem, "look at what it names; the other checks are not touched by it"))


def _collected(
    names: Sequence[str], answers: Sequence["queue.SimpleQueue[Finding]"], end: float, patience: float
) -> Iterator[Finding]:
    for what, answer in zip(names, answers, strict=True):
        try:
            yield answer.get(timeout=max(0.0, end - time.monotonic()))
        except queue.Empty:
            mend = "see whether the network, or the folder that it needs, hangs; then ask again"
            yield Finding("note", what, f"no answer within {patience:g} s", mend)
