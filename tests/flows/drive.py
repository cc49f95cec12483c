"""Runs the real flow several times in one process with one Prefect server, for test_pipeline.py.

`python drive.py RESULTS`, in a toy DVC project. Each step's outcome goes to RESULTS as one JSON line.
"""

import contextlib
import io
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from flows import server, settings


def main(results: Path) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs start with it ignored
    root = Path.cwd()
    settings.prepare(root, quiet=True)
    wait = server.start_temporary_server(root)
    from flows import pipeline

    wait()

    def step(name: str, **options: object) -> None:
        started, out = time.monotonic(), io.StringIO()
        try:
            with contextlib.redirect_stdout(out):
                fine: object = pipeline.run(**options)  # type: ignore[arg-type]
        except KeyboardInterrupt:
            fine = "stopped"
        row = {"step": name, "fine": fine, "seconds": time.monotonic() - started, "said": out.getvalue()}
        with results.open("a") as file:
            file.write(json.dumps(row) + "\n")

    step("first")
    step("again")
    parameters = Path("params.yaml")
    parameters.write_text(parameters.read_text().replace("seed: 7", "seed: 8"))
    Path("broken").write_text("left")
    step("broken")
    Path("broken").unlink()
    step("mended")
    _ask_an_api(step)
    Path("slow").write_text("left")
    interrupt = threading.Thread(target=_interrupt_when_slow, daemon=True)
    interrupt.start()
    step("interrupted", stages=["left"], force=True)


def _ask_an_api(step: Callable[..., None]) -> None:
    """One stage that asks an endpoint: nobody answers at first; then the key is wrong."""
    from flows import resources

    resources.RETRY_DELAYS[:] = [0.1, 0.1]
    kept = {path: path.read_text() for path in (Path("dvc.yaml"), Path("params.yaml"))}
    Path("dvc.yaml").write_text("stages: {judge: {cmd: python answer.py, outs: [verdicts]}}")
    Path("params.yaml").write_text(kept[Path("params.yaml")].replace("{type: reference}\n", "{type: openai}\n"))
    nobody, wrong = "error: judge.judges.reference: no endpoint answers (a: gone)", "error: judge: answered 401"
    for name, replies in {"retried": [nobody, ""], "hopeless": [wrong, ""], "gone": [nobody] * 4}.items():
        Path("replies").write_text("\n".join(replies))
        step(name, force=True)
        Path("replies").rename(f"left-{name}")
    for path, text in kept.items():
        path.write_text(text)


def _interrupt_when_slow() -> None:
    while not Path("sleeping").exists():
        time.sleep(0.1)
    os.kill(os.getpid(), signal.SIGINT)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
