"""What keeping samples costs: the journal's lines written and read a second, its bytes on disk and in memory a sample,
what a question of the pipeline and a request for it take in memory, and how fast a folder of pictures gets the md5 that
DVC gives it (DVC's own cache comes on top).

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

from grandrounds import files
from grandrounds.domain import prompts
from grandrounds.engines.journal import Journal
from grandrounds.engines.protocol import Completion, Request
from grandrounds.records import Question
from grandrounds.tracking import lock

QUESTIONS = "data/curated/train.parquet"

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
        questions, question = held(lambda: files.read(QUESTIONS, Question))
        form = prompts.COMPACT["reasoning"]
        _, request = held(lambda: [Request(f"{each.id}/{i}", each, form, i) for each in questions for i in range(16)])
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
            "memory_bytes_a_question": question / len(questions),
            "memory_bytes_a_request": request / (16 * len(questions)),
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
    kept, memory = held(lambda: Journal(path))
    kept.close()
    return seconds, memory


def held(make: Callable[[], Any]) -> tuple[Any, int]:
    """What is made, and the bytes that Python holds for it."""
    tracemalloc.start()
    made = make()
    memory, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return made, memory


def clocked(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    main(parser.parse_args().quick)
