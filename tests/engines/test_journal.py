"""Samples outlive a kill: the same file in the end, and little is drawn twice."""

import subprocess
import sys
import time
from collections.abc import Container, Iterable, Iterator
from pathlib import Path

import pytest

from grandrounds.domain.prompts import Form
from grandrounds.engines.journal import Journal, journal
from grandrounds.engines.protocol import Completion, Request
from grandrounds.params import Sampling
from grandrounds.records import Question

ASKED = Question(
    "q", "s", "train", "g", "pediatrics", "Apgar", "text", "open_ended", "?", [], "a", "", [], "", [], "", ""
)
REQUESTS = [Request(f"q/{i}", ASKED, Form("?"), i) for i in range(6)]


class Counting:
    """An engine of batches of two that counts what it draws."""

    def __init__(self) -> None:
        self.drawn: list[str] = []

    def generate(
        self, requests: Iterable[Request], sampling: Sampling, done: Container[str] = ()
    ) -> Iterator[Completion]:
        requests = list(requests)
        for batch in (requests[i : i + 2] for i in range(0, len(requests), 2)):
            if all(each.id in done for each in batch):
                continue
            for each in batch:
                self.drawn.append(each.id)
                yield Completion(each.id, f"text é {each.sample}\n", 3, True, "down" if each.sample == 5 else "")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_was_drawn_is_not_drawn_again_and_what_failed_is() -> None:
    first, second = Counting(), Counting()
    with pytest.raises(KeyboardInterrupt), journal("filter", "text", "a") as kept:
        for place, _ in enumerate(kept.generate(first, REQUESTS, Sampling())):
            if place == 4:
                raise KeyboardInterrupt
    with journal("filter", "text", "a") as kept:
        again = list(kept.generate(second, REQUESTS, Sampling()))
    assert first.drawn == [f"q/{i}" for i in range(5)]
    assert second.drawn == ["q/4", "q/5"]  # the batch that was torn, whole
    assert sorted(each.id for each in again) == [each.id for each in REQUESTS]
    assert not list(Path(".scratch/samples/filter-text").iterdir())  # ended well: nothing is left


def test_another_identity_begins_anew(here: Path) -> None:
    with pytest.raises(KeyboardInterrupt), journal("filter", "text", "a") as kept:
        list(kept.generate(Counting(), REQUESTS, Sampling()))
        raise KeyboardInterrupt
    with journal("filter", "text", "b") as kept:
        assert not kept.known and [path.name for path in here.rglob("*.jsonl")] == ["b.jsonl"]


@pytest.mark.parametrize("cut", [2, 20, 60])
def test_a_torn_or_altered_line_is_drawn_again(here: Path, cut: int) -> None:
    path = here / "j.jsonl"
    list(Journal(path).generate(Counting(), REQUESTS[:3], Sampling()))
    path.write_bytes(path.read_bytes()[:-cut])
    kept = Journal(path)
    assert list(kept.known) == ["q/0", "q/1"]
    list(kept.generate(Counting(), REQUESTS[:3], Sampling()))
    path.write_bytes(path.read_bytes().replace(b"text", b"test", 1))
    assert len(Journal(path).known) == 2  # one of three no longer has its checksum


def test_killed_at_random_moments_it_ends_the_same(here: Path) -> None:
    script = here / "run.py"
    script.write_text(
        "import time\nfrom tests.engines.test_journal import *\nfrom pathlib import Path\n"
        "class Slow(Counting):\n"
        "    def generate(self, *a):\n"
        "        for each in super().generate(*a):\n            time.sleep(0.02); yield each\n"
        "asked = [Request(f'q/{i}', ASKED, Form('?'), 0) for i in range(60)]\n"
        "with journal('filter', None, 'x') as kept:\n"
        "    texts = {each.id: each.text for each in kept.generate(Slow(), asked, Sampling())}\n"
        "    Path('out').write_text(repr(sorted(texts.items())))\n"
    )
    root = Path(__file__).resolve().parents[2]
    for pause in (0.9, 0.7, 1.1, 0.8):
        process = subprocess.Popen([sys.executable, script], cwd=here, env={"PYTHONPATH": str(root), "PATH": ""})
        time.sleep(pause)
        process.kill()
        process.wait()
    subprocess.run([sys.executable, script], cwd=here, env={"PYTHONPATH": str(root), "PATH": ""}, check=True)
    assert (here / "out").read_text() == repr(sorted((f"q/{i}", "text é 0\n") for i in range(60)))
