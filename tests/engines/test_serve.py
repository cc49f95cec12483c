"""A real server: `transformers serve` on loopback, with the tiny model, a local folder and no hub."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
from loopback import PROXIES

from grandrounds.domain import prompts
from grandrounds.engines import chat, judges
from grandrounds.engines.protocol import Request
from grandrounds.engines.remote import RemoteEngine
from grandrounds.params import OpenAIEngine, Sampling
from grandrounds.records import Prediction

SERVE = "from transformers.cli.transformers import main; main()"
PATIENCE = 120  # seconds until it answers: it imports torch on a machine that may be busy


@pytest.fixture(scope="module")
def served(tiny, tmp_path_factory):
    """Settings of an engine that asks it."""
    folder = tmp_path_factory.mktemp("serve")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", SERVE, "serve", str(tiny.folder), "--host", "127.0.0.1", "--port", str(port),
               "--device", "cpu"]  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if name not in PROXIES}
    environment |= {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1"}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    try:
        until = time.monotonic() + PATIENCE
        while not healthy(port):
            if process.poll() is not None or time.monotonic() > until:
                pytest.fail(f"transformers serve did not start: {(folder / 'log').read_text()[-1500:]}")
            time.sleep(0.2)
        yield OpenAIEngine(type="openai", model=str(tiny.folder), endpoints=[f"http://127.0.0.1:{port}/v1"],
                           concurrency=4, timeout=60)  # fmt: skip
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()


def healthy(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as reply:
            return reply.status == 200
    except (urllib.error.URLError, OSError):
        return False


@pytest.mark.parametrize("modality", ["text", "image_text"])
@pytest.mark.parametrize("form", ["reasoning", "explanation"])
def test_a_filter_like_list_is_sampled(served, tiny, keyed, tmp_path, modality, form):
    asked = prompts.COMPACT[form]
    questions = [each for each in tiny.questions if each.modality == modality][:3]
    requests = [Request(f"{each.id}/{i}", each, asked, i) for each in questions for i in range(2)]
    engine = RemoteEngine(served, tiny.images, 7, tmp_path)
    found = list(engine.generate(requests, Sampling(max_new_tokens=8)))
    assert sorted(each.id for each in found) == sorted(each.id for each in requests)
    assert all(not each.problem and 1 <= each.tokens <= 8 and each.text.startswith(asked.prefill) for each in found)
    assert len({each.text for each in found}) > 1
    # a picture is 16 visual tokens of the prompt, beside its question
    assert engine.spent.answered == 6 and engine.spent.prompt_tokens > 6 * (16 if modality == "image_text" else 4)


def test_a_judge_like_list_is_unscored_with_the_reason(served, tiny, keyed, tmp_path, monkeypatch):
    """A model that was never trained says no JSON, and at the repair its own noise is read as pictures: HTTP 500."""
    monkeypatch.setattr(chat, "LONGEST_WAIT", 0.05)
    cases = [
        (each, Prediction("base", each.id, "test", "no_reasoning", "<answer>yes</answer>", 5, True, True, True, "yes",
                          True, True))
        for each in tiny.questions[:2]
    ]  # fmt: skip
    judge = judges.make("llm", served, "GRADE", tmp_path)
    verdicts = judge.judge(cases)
    assert len(verdicts) == 2
    assert all(each.prediction_score is None and each.evaluation.startswith("unscored: ") for each in verdicts)
