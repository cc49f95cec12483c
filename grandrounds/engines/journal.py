"""Samples kept as they come, so that a stage that was killed goes on where it was.

One line a sample, each with its own checksum and written at once: what a kill tears is the last line, and that is drawn
again. A journal belongs to one stage under one identity (params, inputs, code); another identity begins another, and a
stage that ends well leaves none.
"""

import dataclasses
import json
import os
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from grandrounds.engines.protocol import Completion, Engine, Request
from grandrounds.params import Sampling

FOLDER = Path(".scratch/samples")
SYNC = 2.0  # seconds between two waits for the disk: what a power failure may cost, a kill costs nothing


class Journal:
    """Completions by request id, in a file of lines `<crc32> <json>`."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.known = {each.id: each for each in _whole_lines(path)}
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.write(self._file, b"\n")  # ends a line that a kill tore
        self._synced = time.monotonic()

    def add(self, completion: Completion) -> None:
        text = json.dumps(dataclasses.asdict(completion)).encode()
        os.write(self._file, b"%08x %s\n" % (zlib.crc32(text), text))
        self.known[completion.id] = completion
        if time.monotonic() - self._synced > SYNC:
            os.fsync(self._file)
            self._synced = time.monotonic()

    def close(self) -> None:
        os.close(self._file)

    def generate(self, engine: Engine, requests: Iterable[Request], sampling: Sampling) -> Iterator[Completion]:
        """What the engine generates, each completion kept before it is handed on. Those known come first.

        A request that could not be answered is not kept: it is tried again.
        """
        requests = list(requests)
        before = {each.id: self.known[each.id] for each in requests if each.id in self.known}
        yield from before.values()
        for completion in engine.generate(requests, sampling, before.keys()):
            if completion.id not in before:  # a batch that was torn is drawn again whole
                if not completion.problem:
                    self.add(completion)
                yield completion


@contextmanager
def journal(stage: str, item: str | None, identity: str) -> Iterator[Journal]:
    """The journal of a stage under an identity; removed when the block ends well, kept when it does not."""
    name = "-".join(filter(None, (stage, item)))
    path = FOLDER / name / f"{identity}.jsonl"
    for old in path.parent.glob("*.jsonl"):
        if old != path:
            old.unlink(missing_ok=True)
    kept = Journal(path)
    try:
        yield kept
    finally:
        kept.close()
    path.unlink(missing_ok=True)


def _whole_lines(path: Path) -> Iterator[Completion]:
    if not path.exists():
        return
    with path.open("rb") as lines:
        for line in lines:
            check, _, text = line.rstrip(b"\n").partition(b" ")
            try:
                if int(check, 16) == zlib.crc32(text):
                    yield Completion(**json.loads(text))
            except (ValueError, TypeError):  # torn
                continue
