"""The calls that the vLLM engine makes. vLLM itself needs a GPU: what stands here for it records them."""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from grandrounds.domain import prompts
from grandrounds.engines.protocol import Request
from grandrounds.engines.vllm import VllmInProcess
from grandrounds.errors import UserError
from grandrounds.params import Sampling, VllmEngine


class Recorder:
    def __init__(self, **options: Any) -> None:
        self.options, self.calls = options, []
        self.model_config = SimpleNamespace(max_model_len=options.get("max_model_len", 400))
        Recorder.last = self

    def generate(self, asked: list, options: list, lora_request: Any, use_tqdm: bool) -> list:
        self.calls.append((asked, options, lora_request))
        drawn = SimpleNamespace(text="<answer>a</answer>", token_ids=[1, 2], finish_reason="stop")
        return [SimpleNamespace(outputs=[drawn]) for _ in asked]

    last: "Recorder"


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module, request = ModuleType("vllm"), ModuleType("vllm.lora.request")
    module.LLM, module.SamplingParams = Recorder, SimpleNamespace  # type: ignore[attr-defined]
    request.LoRARequest = lambda name, number, path: (name, number, path)  # type: ignore[attr-defined]
    for name, each in (("vllm", module), ("vllm.lora", ModuleType("vllm.lora")), ("vllm.lora.request", request)):
        monkeypatch.setitem(sys.modules, name, each)
    return module


def engine(tiny, **settings) -> VllmInProcess:
    return VllmInProcess(VllmEngine(type="vllm", **settings), tiny.folder, None, "float32", 7, tiny.images)


def test_each_sample_has_its_own_seed_and_a_picture_its_prompt(vllm, tiny) -> None:
    form = prompts.COMPACT["explanation"]
    pictured = next(each for each in tiny.questions if each.image)
    asked = [Request(f"{q.id}/{k}", q, form, k) for k in range(2) for q in (tiny.questions[0], pictured)]
    done = list(engine(tiny).generate(asked, Sampling(max_new_tokens=9, top_p=0.9)))
    assert sorted(each.id for each in done) == sorted(each.id for each in asked)
    assert all(each.text == form.prefill + "<answer>a</answer>" and each.finished for each in done)
    ((sent, options, adapter),) = Recorder.last.calls
    assert adapter is None and len({each.seed for each in options}) == 4
    assert {(each.temperature, each.top_p, each.max_tokens) for each in options} == {(1.0, 0.9, 9)}
    assert sum("multi_modal_data" in each for each in sent) == 2 * (1 + bool(tiny.questions[0].image))
    assert all(each["prompt"].endswith(form.prefill) for each in sent)
    assert Recorder.last.options["enable_prefix_caching"] and not Recorder.last.options["trust_remote_code"]


def test_what_is_done_is_not_sent_and_what_is_too_long_is_refused(vllm, tiny) -> None:
    form = prompts.COMPACT["reasoning"]
    asked = [Request(f"{q.id}/0", q, form) for q in tiny.questions[:3]]
    assert len(list(engine(tiny).generate(asked, Sampling(), done={asked[0].id}))) == 2
    refused = list(engine(tiny, context=5).generate(asked, Sampling()))
    assert all("the context is 5" in each.problem for each in refused)


def test_without_the_package_one_line_says_what_to_install(tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(UserError, match=r"grandrounds\[vllm\]"):
        engine(tiny)
