"""Generation with vLLM in this process, on a GPU: many samples at once, prompts shared by its prefix cache.

Not run by our tests but for the calls that it makes: vLLM needs a GPU. Each sample has a seed of its own, as in the
other engines; vLLM promises the same text for it only in the same batch, so figures from it carry its version.
"""

from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from typing import Any

from grandrounds import lora
from grandrounds.encoding import Encoder, Rejected
from grandrounds.engines.protocol import Completion, Request, seed_of
from grandrounds.errors import UserError
from grandrounds.files import need
from grandrounds.params import Sampling, VllmEngine

ROUND = 4096  # samples handed to vLLM at once; what a kill costs


class VllmInProcess:
    """A vLLM engine over a model folder, with a LoRA adapter by folder if one is given."""

    def __init__(
        self,
        settings: VllmEngine,
        model: str | Path,
        adapter: str | Path | None,
        precision: str,
        seed: int,
        images: Path,
    ) -> None:
        try:
            import vllm
        except ImportError:
            raise UserError("engine type vllm: the package is missing; `pip install 'grandrounds[vllm]'`") from None
        from transformers import AutoProcessor

        self._vllm, self.seed = vllm, seed
        folder = str(need(model))
        self.encoder = Encoder(AutoProcessor.from_pretrained(folder, trust_remote_code=False), images)
        options: dict[str, Any] = {"max_model_len": settings.context} if settings.context else {}
        if adapter is not None:
            options |= {"enable_lora": True, "max_lora_rank": lora.load_update(adapter).rank}
        self._model = vllm.LLM(
            model=folder, dtype=precision, gpu_memory_utilization=settings.memory, enable_prefix_caching=True,
            limit_mm_per_prompt={"image": 1}, trust_remote_code=False, seed=seed % 2**31, **options,
        )  # fmt: skip
        self._adapter = None
        if adapter is not None:
            from vllm.lora.request import LoRARequest

            self._adapter = LoRARequest(Path(adapter).name, 1, str(Path(adapter).resolve()))

    def generate(
        self, requests: Iterable[Request], sampling: Sampling, done: Container[str] = ()
    ) -> Iterator[Completion]:
        left = [each for each in requests if each.id not in done]
        left.sort(key=lambda each: (each.question.id, each.sample, each.id))  # samples of a prompt share its prefix
        for start in range(0, len(left), ROUND):
            yield from self._round(left[start : start + ROUND], sampling)

    def _round(self, requests: list[Request], sampling: Sampling) -> Iterator[Completion]:
        asked, prompts = [], []
        for each in requests:
            try:
                prompts.append(self._prompt(each))
                asked.append(each)
            except Rejected as error:
                yield Completion(each.id, "", 0, False, str(error))
        options = [
            self._vllm.SamplingParams(
                temperature=sampling.temperature, top_p=sampling.top_p, max_tokens=sampling.max_new_tokens,
                seed=seed_of(self.seed, each.id), stop_token_ids=[self.encoder.end],
            )
            for each in asked
        ]  # fmt: skip
        outputs = self._model.generate(prompts, options, lora_request=self._adapter, use_tqdm=False)
        for each, output in zip(asked, outputs, strict=True):
            drawn = output.outputs[0]
            finished = drawn.finish_reason == "stop"
            yield Completion(each.id, each.form.prefill + drawn.text, len(drawn.token_ids), finished)

    def _prompt(self, request: Request) -> dict[str, Any]:
        length = len(self.encoder.prompt(request.question, request.form).ids)
        room = self._model.model_config.max_model_len
        if length >= room:
            raise Rejected(f"question {request.question.id}: a prompt of {length:,} tokens; the context is {room:,}")
        text: dict[str, Any] = {"prompt": self.encoder.text(request.question, request.form)}
        if request.question.images:
            text["multi_modal_data"] = {"image": self.encoder.pictures(request.question)}
        return text
