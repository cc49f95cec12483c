"""What keeping samples costs: the journal's lines written and read a second, its bytes on disk and in memory a sample,
and how fast a folder of pictures is hashed as DVC does it.

    python benchmarks/journal.py [--quick]
"""

import argparse
import json
import random
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

from grandrounds.engines.journal import Journal
from grandrounds.engines.protocol import Completion
from grandrounds.tracking import lock

CHARACTERS = 180  # of a completion, as the embedded model writes
PICTURE = 9_000  # bytes


def main(quick: bool) -> None:
    samples, pictures = (40_000, 4_000) if quick else (400_000, 40_000)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "journal.jsonl")
        kept = Journal(path)
        write = clocked(lambda: [kept.add(completion(number)) for number in range(samples)])
        kept.close()
        read, memory = loaded(path)
        images = Path(folder, "images")
        images.mkdir()
        draw = random.Random(7)
        for number in range(pictures):
            (images / f"{number:07}.png").write_bytes(draw.randbytes(PICTURE))
        names = sorted(images.iterdir())
        hashed = clocked(lambda: lock.folder_digest(images, names))
        figures = {
            "written_a_second": samples / write,
            "read_a_second": samples / read,
            "disk_bytes_a_sample": path.stat().st_size / samples,
            "memory_bytes_a_sample": memory / samples,
            "pictures_hashed_a_second": pictures / hashed,
            "samples": samples,
            "pictures": pictures,
        }
    print(json.dumps({name: round(value) for name, value in figures.items()}))


def completion(number: int) -> Completion:
    return Completion(f"question-{number // 16:08}/{number % 16}", "x" * CHARACTERS, 40, True)


def loaded(path: Path) -> tuple[float, int]:
    """Seconds to open a journal again, and the bytes that it then holds."""
    seconds = clocked(lambda: Journal(path).close())
    tracemalloc.start()
    kept = Journal(path)
    memory, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    kept.close()
    return seconds, memory


def clocked(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    main(parser.parse_args().quick)
