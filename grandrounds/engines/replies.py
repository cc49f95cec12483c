"""What endpoints answered, kept by the hash of what was asked, so that nothing is paid for twice.

One JSON object a line in a file that is only ever appended to, whole lines by one write each: two processes may share
it, and a kill can tear the last line only, which is then asked for again.
"""

import json
import os
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from grandrounds.errors import UserError


def folder(name: str) -> Path:
    """Where replies are kept: with the project, which inside a DVC experiment is not the working folder."""
    return Path(os.environ.get("DVC_ROOT") or ".", ".cache", name)


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer of an endpoint; token counts are None where it did not say."""

    text: str
    thinking: str = ""  # where a server takes the thinking out of the text (vLLM's reasoning parsers)
    prompt_tokens: int | None = None
    tokens: int | None = None  # generated
    stop: str = "stop"  # why it ended: stop, length, content_filter, ...


class Replies:
    """Replies by key. In memory are only their places in the file: thinking is long, and samples are many."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._places: dict[str, tuple[int, int]] = {}  # key -> offset and length of its line
        self._torn = False
        if path.exists():
            self._read()

    def _read(self) -> None:
        line, at = b"\n", 0
        with self._path.open("rb") as file:
            for line in file:
                try:
                    entry = json.loads(line)
                    Reply(**entry["reply"])
                    self._places[entry["key"]] = at, len(line)
                except (ValueError, KeyError, TypeError):  # torn by a kill, or of an older format
                    pass
                at += len(line)
        self._torn = not line.endswith(b"\n")

    def __len__(self) -> int:
        return len(self._places)

    def get(self, key: str) -> Reply | None:
        if key not in self._places:
            return None
        at, length = self._places[key]
        with self._path.open("rb") as file:
            file.seek(at)
            return Reply(**json.loads(file.read(length))["reply"])

    def put(self, key: str, reply: Reply) -> None:
        """Keep one reply. Raises UserError when the disk does not take it."""
        entry = {"key": key, "reply": asdict(reply), "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        with self._lock:
            line = json.dumps(entry).encode() + b"\n"
            written = b"\n" + line if self._torn else line
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
                try:
                    whole = os.write(file, written) == len(written)
                    end = os.lseek(file, 0, os.SEEK_CUR)
                finally:
                    os.close(file)
            except OSError as error:
                raise UserError(f"{self._path}: a reply cannot be kept ({error.strerror}); free the disk") from None
            self._torn = not whole
            if not whole:
                raise UserError(f"{self._path}: a reply was cut short (the disk is full); free the disk")
            self._places[key] = end - len(line), len(line)
