"""MLflow's share of a stage, in a small process beside it.

Importing mlflow and opening its store take 3.5 s, as long as some stages. Here they happen while the stage imports
torch. And when a stage is killed by any signal, its pipe closes, and the run is marked KILLED rather than left RUNNING.
A server that goes away is waited for while the stage works, and a little longer; until it ends, the stage never waits.

The two talk in JSON lines: `start`, `metrics`, `artifact`, `checkpoint`, `end` down, and up `{"run_id"}`, `{"done"}` or
`{"error"}`.
"""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from grandrounds.errors import UserError
from grandrounds.tracking import checkpoints, server, store

PATIENCE = 90.0  # seconds that a finished stage waits for its run to be written
GRACE = 50.0  # of these, seconds in which a server that had answered may come back
STRANGER = 5.0  # and one that never did
TRIES = 3  # of a file that the store refuses, so that a full one holds up no metrics

_EPOCH = time.time() - time.monotonic()  # when the clock that nobody sets was 0

T = TypeVar("T")


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
        self.send("end", status=status, time=now())
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


def now() -> int:
    """Milliseconds since 1970, as MLflow counts: by a clock that nobody sets while the process lives."""
    return int((_EPOCH + time.monotonic()) * 1000)


class _Run:
    """The MLflow run, in the writer process."""

    def __init__(self, patience: "_Patience") -> None:
        self.id = self.problem = ""
        self.began = 0
        self.client, self.experiment = patience.until_done(store.connect)

    def open(self, start: dict[str, Any], patience: "_Patience") -> None:
        self.began = start["time"]
        token = {"grandrounds.attempt": uuid.uuid4().hex}
        self.id = patience.until_done(lambda: self._create(start, token))
        record = start["params"], start["inputs"], start["sources"]
        patience.until_done(lambda: log_record(self.client, self.id, *record))

    def _create(self, start: dict[str, Any], token: dict[str, str]) -> str:
        """The server may have made the run and gone away before it said so."""
        ((name, value),) = token.items()
        made = self.client.search_runs([self.experiment], f"tags.`{name}` = '{value}'")
        run = made[0] if made else self.client.create_run(
            self.experiment, start["time"], {**start["tags"], **token}, start["name"]
        )  # fmt: skip
        return str(run.info.run_id)

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

        experiment, ended = self.client.get_run(self.id).info.experiment_id, now()
        tags = {**body["tags"], "mlflow.parentRunId": self.id}
        same = f"tags.`mlflow.parentRunId` = '{self.id}' and attributes.run_name = '{body['name']}'"
        made = self.client.search_runs([experiment], same)  # by a try that the server did not live to answer
        run_id = (made[0] if made else self.client.create_run(experiment, ended, tags, body["name"])).info.run_id
        metrics = [Metric(name, value, ended, 0) for name, value in body["metrics"].items()]
        self.client.log_batch(run_id, metrics, [Param(key, str(value)) for key, value in body["params"].items()])
        self.client.set_terminated(run_id, end_time=ended)

    def end(self, body: dict[str, Any]) -> None:
        whole = not (self.problem and body["status"] == "FINISHED")  # if not, `publish` makes another from run.json
        ended = max(body["time"], self.began)  # this process may have begun after the clock was set back
        self.client.set_terminated(self.id, body["status"] if whole else "FAILED", ended)


class _Patience:
    """How long a server that is away is waited for: as long as the stage works, and a little longer.

    The stage's messages are read at once, by a thread: were they left in the pipe, a full one would stop the stage.
    """

    def __init__(self) -> None:
        self.messages: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self.known = False  # the server has answered
        self._ended: float | None = None
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in sys.stdin:
            message = json.loads(line)
            if message["kind"] == "end":
                self._ended = time.monotonic()
            self.messages.put(message)
        self._ended = self._ended or time.monotonic()
        self.messages.put(None)  # the stage is gone

    def until_done(self, work: Callable[[], T], tries: int = 0) -> T:
        """The result of `work`, done anew after an error that may pass; `tries`: refusals of a server that is there."""
        pause, number = 0.5, 0
        while True:
            try:
                found = work()
            except Exception as error:
                number += not server.away(error)
                if 0 < tries == number or not server.passing(error) or self._over():
                    raise
            else:
                self.known = True
                return found
            time.sleep(pause)
            pause = min(2 * pause, 4.0)

    def _over(self) -> bool:
        return self._ended is not None and time.monotonic() - self._ended > (GRACE if self.known else STRANGER)


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


def main() -> int:
    """Read messages until `end`, or until the stage is gone; the exit code."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    up = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever a library prints must not look like a message

    def say(**message: Any) -> None:
        with contextlib.suppress(OSError):  # the stage may be gone; its run is still to be marked
            print(json.dumps(message), file=up)

    run: _Run | None = None
    patience = _Patience()
    # a server's every request is tried anew here, where it can be given up when the stage ends
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    try:
        while message := patience.messages.get():
            kind = message.pop("kind")
            if kind == "start":
                run = _Run(patience)
                run.open(message, patience)
                say(run_id=run.id)
            elif run is not None:
                _carry_out(run, kind, message, patience)
            if kind == "end":
                break
        if run is not None and message is None:
            _carry_out(run, "end", {"status": "KILLED", "time": now()}, patience)
    except Exception as error:  # every kind: the stage prints it and goes on
        say(error=_reason(error))
        if run is not None and run.id:
            with contextlib.suppress(Exception):  # the server is away: `publish` marks it, and makes another
                run.end({"status": "FAILED", "time": now()})
        return 1
    if run is not None and run.problem:
        say(error=run.problem)
    return 0


def _carry_out(run: _Run, kind: str, body: dict[str, Any], patience: _Patience) -> None:
    """One message. A file that the store does not take is told of at the end: metrics still go to the database."""
    if kind not in ("artifact", "checkpoint"):
        patience.until_done(lambda: getattr(run, kind)(body))
        return
    try:
        patience.until_done(lambda: getattr(run, kind)(body), TRIES)
    except Exception as error:
        run.problem = run.problem or _reason(error)


def _reason(error: Exception) -> str:
    text = server.plain(error, store.tracking_uri())
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"


if __name__ == "__main__":
    os._exit(main())  # every transaction is committed; tearing down mlflow's modules would take another half second
