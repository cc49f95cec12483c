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
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from grandrounds.engines.protocol import Completion, Engine, Request
from grandrounds.params import Sampling

FOLDER = Path(".scratch/samples")
SYNC = 2.0  # seconds between two waits for the disk: what a power failure may cost, a kill costs nothing


class Journal:
    """Completions by request id, in a file of lines `<crc32> <json>`. In memory are the ids alone."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.known = {completion.id: place for place, completion in _whole_lines(path)}  # where its line begins
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.write(self._file, b"\n")  # ends a line that a kill tore
        self._end = os.fstat(self._file).st_size
        self._lines = path.open("rb")
        self._synced = time.monotonic()

    def add(self, completion: Completion) -> None:
        text = json.dumps(dataclasses.asdict(completion)).encode()
        line = b"%08x %s\n" % (zlib.crc32(text), text)
        os.write(self._file, line)
        self.known[completion.id] = self._end
        self._end += len(line)
        if time.monotonic() - self._synced > SYNC:
            os.fsync(self._file)
            self._synced = time.monotonic()

    def read(self, name: str) -> Completion:
        """A completion that is known."""
        self._lines.seek(self.known[name])
        found = _completion(self._lines.readline())
        assert found is not None and found.id == name, f"{self._lines.name}: changed under our hands"
        return found

    def close(self) -> None:
        os.close(self._file)
        self._lines.close()

    def generate(self, engine: Engine, requests: Iterable[Request], sampling: Sampling) -> Iterator[Completion]:
        """What the engine generates, each completion kept before it is handed on, and what was kept before.

        Requests are taken as the engine takes them. One that could not be answered is not kept: it is tried again.
        """
        before: deque[str] = deque()  # known, and not yet handed on

        def noted() -> Iterator[Request]:
            for each in requests:
                if each.id in self.known:
                    before.append(each.id)
                yield each

        for completion in engine.generate(noted(), sampling, self.known):
            while before:
                yield self.read(before.popleft())
            if completion.id not in self.known:  # a batch that was torn is drawn again whole
                if not completion.problem:
                    self.add(completion)
                yield completion
        while before:
            yield self.read(before.popleft())


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


def _whole_lines(path: Path) -> Iterator[tuple[int, Completion]]:
    """Every completion that is whole, with the place of its line."""
    if not path.exists():
        return
    place = 0
    with path.open("rb") as lines:
        for line in lines:
            if (completion := _completion(line)) is not None:
                yield place, completion
            place += len(line)


def _completion(line: bytes) -> Completion | None:
    check, _, text = line.rstrip(b"\n").partition(b" ")
    try:
        return Completion(**json.loads(text)) if int(check, 16) == zlib.crc32(text) else None
    except (ValueError, TypeError):  # torn
        return None
