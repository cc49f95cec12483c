"""Real Ray on this machine: the same bytes as one engine, whatever is lost on the way."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from pydantic import ValidationError

from grandrounds.domain import prompts
from grandrounds.encoding import Encoder
from grandrounds.engines.protocol import Completion, Request
from grandrounds.engines.ray import RayPool, placed
from grandrounds.errors import UserError
from grandrounds.params import RayEngine, Sampling, load

ROOT = Path(__file__).resolve().parents[2]
FORM = prompts.COMPACT["reasoning"]
SAMPLING = Sampling(max_new_tokens=6)


def settings(**changes) -> RayEngine:
    return RayEngine(**({"type": "ray", "gpus": 0, "deal": 8} | changes))


def requests(tiny, samples: int = 3) -> list[Request]:
    return [Request(f"{q.id}/{i}", q, FORM, i) for q in tiny.questions[:20] for i in range(samples)]


@dataclass
class Echo:
    """Stands where a model would: says each request's id, but first does what a request's id tells it to."""

    notes: Path

    def generate(self, requests, sampling, done=()) -> Iterator[Completion]:
        for each in requests:
            note = self.notes / each.id.replace("/", "-")
            if each.id.startswith("deadly") or (each.id.startswith("once") and not note.exists()):
                note.touch()
                time.sleep(0.5)  # what was answered before is on its way: a death takes along what it has not sent
                os.kill(os.getpid(), signal.SIGKILL)
            if each.id.startswith("refused"):
                raise UserError(f"question {each.id}: not readable; mend it")
            if each.id not in done:
                yield Completion(each.id, f"said {each.id}", 1, True)


def echo(model, adapter, notes: Path) -> Echo:
    return Echo(notes)


def unloadable(model, adapter) -> Echo:
    raise UserError(f"{model}: no weights; run `dvc checkout {model}`")


def dying(model, adapter) -> Echo:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def here(build, tiny, **changes):
    """A pool over something that loads no model."""
    ray = pytest.importorskip("ray")
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the actors cannot import a test
    return RayPool(settings(**changes), build, tiny.folder, None, Path("images"), "filter.engine")


def named(tiny, *names: str) -> list[Request]:
    return [Request(name, tiny.questions[0], FORM) for name in names]


@pytest.fixture(scope="module")
def alone(tiny) -> dict[str, Completion]:
    """What one engine in this process says."""
    from grandrounds import models
    from grandrounds.engines.local import LocalEngine

    model, processor = models.load(tiny.folder, "cpu", "float32")
    engine = LocalEngine(model, Encoder(processor, tiny.images), 7)
    return {each.id: each for each in engine.generate(requests(tiny), SAMPLING)}


@pytest.fixture
def project(tiny, tmp_path, monkeypatch) -> Path:
    """A folder like the project's: pictures where the stages have them."""
    (tmp_path / "data" / "curated").mkdir(parents=True)
    (tmp_path / "data" / "curated" / "images").symlink_to(tiny.images)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def pool(tiny, **changes):
    from grandrounds.engines import factory

    return factory.make(settings(**changes), tiny.folder, load(ROOT / "params.yaml"), 7, "filter.engine")


@pytest.mark.slow
def test_two_actors_say_what_one_engine_says_and_a_killed_one_changes_nothing(tiny, alone, project, capfd) -> None:
    asked = requests(tiny)
    engine = pool(tiny)
    found: dict[str, Completion] = {}
    for completion in engine.generate(iter(asked), SAMPLING):
        if not found:
            for victim in actor_processes():
                os.kill(victim, signal.SIGKILL)
        assert completion.id not in found
        found[completion.id] = completion
    assert found == alone
    printed = capfd.readouterr().out
    assert "an actor was lost over 8 requests" in printed and "beside the weights" not in printed
    done = {each.id for each in asked[:30]}  # three deals and a part of one: that one is drawn again whole
    again = {each.id: each for each in engine.generate(asked, SAMPLING, done)}
    assert {name: alone[name] for name in again} == again and {each.id for each in asked} - done <= set(again)
    assert len(again) < len(asked) - 20


def actor_processes() -> list[int]:
    import psutil

    children = psutil.Process().children(recursive=True)
    return [each.pid for each in children if each.name().startswith("ray::Actor")]


@pytest.mark.slow
def test_losses_and_mistakes_end_in_one_line(tiny, tmp_path) -> None:
    """What stands for a model does as its requests say."""
    say = partial(echo, notes=tmp_path)
    told = here(say, tiny, deal=2, losses=1)
    asked = named(tiny, "a", "b", "once", "c", "d")
    assert {each.text for each in told.generate(asked, SAMPLING)} == {f"said {each.id}" for each in asked}
    with pytest.raises(UserError, match=r"^filter\.engine: 2 actors were lost over 2 requests \(deadly to e\)"):
        list(told.generate(named(tiny, "a", "b", "deadly", "e", "f"), SAMPLING))
    with pytest.raises(UserError, match=r"^question refused: not readable; mend it$"):
        list(told.generate(named(tiny, "refused"), SAMPLING))
    assert sorted(each.id for each in told.generate(named(tiny, *"abcdefgh"), SAMPLING)) == [*"abcdefgh"]  # it goes on


@pytest.mark.slow
def test_actors_that_cannot_load_or_be_placed_end_in_one_line(tiny, tmp_path) -> None:
    with pytest.raises(UserError, match="no weights; run `dvc checkout"):
        list(here(unloadable, tiny).generate(named(tiny, "a"), SAMPLING))
    with pytest.raises(UserError, match=r"2 actors were lost over loading .*; give an actor more memory"):
        list(here(dying, tiny, losses=1).generate(named(tiny, "a"), SAMPLING))
    with pytest.raises(UserError, match="2 actors of 1 GPU each, but this machine has 0"):
        here(partial(echo, notes=tmp_path), tiny, gpus=1)


@pytest.mark.slow
def test_an_iterable_without_end_is_dealt_as_it_is_asked_for(tiny, tmp_path) -> None:
    taken = 0

    def endless() -> Iterator[Request]:
        nonlocal taken
        while True:
            taken += 1
            yield Request(f"r{taken}", tiny.questions[0], FORM)

    answers = here(partial(echo, notes=tmp_path), tiny, deal=10).generate(endless(), SAMPLING)
    for _ in range(200):
        next(answers)
    answers.close()
    assert taken <= 200 + 10 * (2 * 2 + 1)  # two deals an actor, and the one that waits


def test_what_cannot_be_is_said_before_ray_starts(tiny, monkeypatch) -> None:
    params = load(ROOT / "params.yaml")
    on_cpu = params.model_copy(update={"compute": params.compute.model_copy(update={"device": "cpu"})})
    with pytest.raises(UserError, match=r"^filter\.engine\.gpus: 1 was given, but compute\.device is 'cpu'"):
        placed(on_cpu, settings(gpus=1), "filter.engine")
    assert placed(params, settings(), "filter.engine").compute.device == "cpu"  # whatever else the node has
    with pytest.raises(ValidationError, match="vllm needs a GPU"):
        settings(holds={"type": "vllm"})
    with pytest.raises(ValidationError, match="address"):
        settings(address="ray://user:secret@host:10001")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"filter\.engine: engine type ray.*pip install 'grandrounds\[ray\]'"):
        pool(tiny)
