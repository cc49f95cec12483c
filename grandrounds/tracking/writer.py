"""MLflow's share of a stage, in a small process beside it.

Importing mlflow and opening its store take 3.5 s, as long as some stages. Here they happen while the stage imports
torch. And when a stage is killed by any signal, its pipe closes, and the run is marked KILLED rather than left RUNNING.

The two talk in JSON lines: `start`, `metrics`, `artifact`, `checkpoint`, `end` down, and up `{"run_id"}`, `{"done"}` or
`{"error"}`.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from grandrounds.tracking import checkpoints, store

PATIENCE = 90.0  # seconds that a finished stage waits for its run to be written


class Writer:
    """The stage's end of the pipe. No method raises: a lost tracking server must not cost hours of training.

    `problem` says what went wrong; the run is then in run.json only, from which `publish` restores it.
    """

    def __init__(self, start: dict[str, Any]) -> None:
        self.run_id: str | None = None
        self.problem = ""
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  (closed in close)
        package_root = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join([package_root, *filter(None, [os.environ.get("PYTHONPATH")])])
        self._child = subprocess.Popen(
            [sys.executable, "-m", "grandrounds.tracking.writer"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            start_new_session=True,  # Ctrl-C reaches the stage, which says how the run ended
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.send("start", **start)

    def send(self, kind: str, **body: Any) -> None:
        try:
            self._child.stdin.write(json.dumps({"kind": kind, **body}).encode() + b"\n")  # type: ignore[union-attr]
            self._child.stdin.flush()  # type: ignore[union-attr]
        except (OSError, ValueError):
            self.problem = self.problem or "the writer process is gone"

    def close(self, status: str) -> None:
        """Mark the run FINISHED, FAILED or KILLED and wait until that is written."""
        self.send("end", status=status, time=_now())
        self._reader.join(PATIENCE)
        if self._reader.is_alive():
            self.problem = self.problem or f"no answer in {PATIENCE:.0f} s"
            self._child.kill()
        self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout):
            with contextlib.suppress(OSError):  # what was still buffered for a child that is gone
                pipe.close()  # type: ignore[union-attr]
        if not self.problem and self._child.returncode:
            self._log.seek(0)
            last = self._log.read().decode(errors="replace").strip().rsplit("\n", 1)[-1]
            self.problem = last or f"the writer process ended with {self._child.returncode}"
        self._log.close()

    def _read(self) -> None:
        for line in self._child.stdout:  # type: ignore[union-attr]
            message = json.loads(line)
            self.run_id = message.get("run_id", self.run_id)
            self.problem = message.get("error", self.problem)


def _now() -> int:
    return int(time.time() * 1000)


class _Run:
    """The MLflow run, in the writer process."""

    def __init__(self, start: dict[str, Any]) -> None:
        self.client, self.experiment = store.connect()
        run = self.client.create_run(self.experiment, start["time"], start["tags"], start["name"])
        self.id = run.info.run_id
        log_record(self.client, self.id, start["params"], start["inputs"], start["sources"])

    def metrics(self, body: dict[str, Any]) -> None:
        from mlflow.entities import Metric

        for rows in batches(body["rows"], 1000):
            self.client.log_batch(self.id, metrics=[Metric(*row) for row in rows])

    def artifact(self, body: dict[str, Any]) -> None:
        self.client.log_artifact(self.id, body["path"], body["folder"])

    def checkpoint(self, body: dict[str, Any]) -> None:
        checkpoints.log(self.client, self.experiment, self.id, body)

    def child(self, body: dict[str, Any]) -> None:
        from mlflow.entities import Metric, Param

        experiment, now = self.client.get_run(self.id).info.experiment_id, _now()
        tags = {**body["tags"], "mlflow.parentRunId": self.id}
        run_id = self.client.create_run(experiment, now, tags, body["name"]).info.run_id
        metrics = [Metric(name, value, now, 0) for name, value in body["metrics"].items()]
        self.client.log_batch(run_id, metrics, [Param(key, str(value)) for key, value in body["params"].items()])
        self.client.set_terminated(run_id)

    def end(self, body: dict[str, Any]) -> None:
        self.client.set_terminated(self.id, body["status"], body["time"])


def log_record(
    client: Any, run_id: str, params: dict[str, Any], inputs: list[dict[str, Any]], sources: dict[str, str]
) -> None:
    """Params, inputs and source files of a run, as :class:`_Run` and the restoring of runs both log them."""
    from mlflow.entities import Dataset, DatasetInput, InputTag, Param, RunTag

    tags = [RunTag(store.RUN_TAG, run_id)]
    rows = [Param(key, str(value)[:6000]) for key, value in params.items()]
    for part in batches(rows, 100):
        client.log_batch(run_id, params=part)
    client.log_batch(run_id, tags=tags)
    context = [InputTag("mlflow.data.context", "input")]
    datasets = [
        Dataset(name=each["path"], digest=each["md5"], source_type="dvc", source=json.dumps(each, sort_keys=True))
        for each in inputs
    ]
    if datasets:
        client.log_inputs(run_id, [DatasetInput(dataset, context) for dataset in datasets])
    if sources:  # 65535 characters, which a dataset may have, are too few for a folder of pictures
        client.log_dict(run_id, sources, store.SOURCES)
        client.set_tag(run_id, store.SOURCES_TAG, str(len(sources)))


def batches(rows: list[Any], size: int) -> Iterator[list[Any]]:
    for first in range(0, len(rows), size):
        yield rows[first : first + size]


def main() -> None:
    """Read messages until `end`, or until the stage is gone."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    up = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever a library prints must not look like a message

    def say(**message: Any) -> None:
        with contextlib.suppress(OSError):  # the stage may be gone; its run is still to be marked
            print(json.dumps(message), file=up)

    run: _Run | None = None
    try:
        for line in sys.stdin:
            message = json.loads(line)
            kind = message.pop("kind")
            if kind == "start":
                run = _Run(message)
                say(run_id=run.id)
            elif run is not None:
                getattr(run, kind)(message)
            if kind == "end":
                return  # the run is whole
        if run is not None:
            run.end({"status": "KILLED", "time": _now()})
    except Exception as error:  # every kind: the stage prints it and goes on
        say(error=f"{type(error).__name__}: {' '.join(str(error).split())}")
        if run is not None:
            run.end({"status": "FAILED", "time": _now()})  # not whole: `publish` makes another from run.json
        sys.exit(1)


if __name__ == "__main__":
    main()
    os._exit(0)  # every transaction is committed; tearing down mlflow's modules would take another half second
