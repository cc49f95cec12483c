"""Generation with a transformers model in this process.

Requests are sorted by form (those that think, then those that only answer) and prompt length, and cut into batches: the
plan is a pure function of the requests, and each batch has a random generator of its own, seeded by what is in it, so a
resumed run gives the same text.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from grandrounds.encoding import Encoder, collate
from grandrounds.engines.protocol import Completion, Request
from grandrounds.files import need
from grandrounds.params import Sampling


def load(folder: str | Path, device: str, precision: str) -> tuple[Any, Any]:
    """(model, processor) of a transformers folder, safetensors only, in evaluation mode."""
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor

    folder = need(folder)
    model = AutoModelForImageTextToText.from_pretrained(
        folder, dtype=getattr(torch, precision), use_safetensors=True, trust_remote_code=False
    )
    return model.to(device).eval(), AutoProcessor.from_pretrained(folder, trust_remote_code=False)


class LocalEngine:
    """A loaded model and its encoder."""

    def __init__(self, model: Any, encoder: Encoder, seed: int) -> None:
        self.model, self.encoder, self.seed = model, encoder, seed

    def generate(self, requests: Iterable[Request], sampling: Sampling) -> Iterator[Completion]:
        for batch in self.plan(requests, sampling.batch):
            yield from self._batch(batch, sampling)

    def plan(self, requests: Iterable[Request], size: int) -> list[list[Request]]:
        """Batches of like prompts, which end at about the same time: by thinking or not, then by length.

        Equal ones stand in order of id, so that the order of requests does not matter.
        """
        requests = list(requests)
        length = {each.id: len(self.encoder.prompt(each.question, each.form).ids) for each in requests}
        ordered = sorted(requests, key=lambda each: (not each.form.thinking, length[each.id], each.id))
        return [ordered[i : i + size] for i in range(0, len(ordered), size)]

    def _batch(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Completion]:
        import torch

        rows = [self.encoder.prompt(each.question, each.form) for each in requests]
        inputs = {name: value.to(self.model.device) for name, value in collate(self.encoder, rows).items()}
        names = "\n".join(each.id for each in requests)
        torch.manual_seed(
            int.from_bytes(hashlib.blake2b(f"{self.seed}\n{names}".encode(), digest_size=6).digest(), "big")
        )
        drawn = (
            {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
            if sampling.temperature > 0
            else {"do_sample": False}
        )
        with torch.inference_mode():
            output = self.model.generate(
                **inputs, max_new_tokens=sampling.max_new_tokens, eos_token_id=self.encoder.end,
                pad_token_id=self.encoder.pad, **drawn,
            )  # fmt: skip
        generated = output[:, inputs["input_ids"].shape[1] :].tolist()
        for each, ids in zip(requests, generated, strict=True):
            finished = self.encoder.end in ids
            used = ids[: ids.index(self.encoder.end)] if finished else ids
            yield Completion(each.id, each.form.prefill + self.encoder.decode(used), len(used) + finished, finished)
