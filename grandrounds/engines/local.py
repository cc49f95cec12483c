"""Generation with a transformers model in this process.

Prompts are sorted by form (those that think, then those that only answer) and length and cut into batches, each with
all of its samples: the plan is a pure function of the requests. Every sample has a random generator of its own, so that
neither the plan nor an interruption changes a text.
"""

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from grandrounds import decoding
from grandrounds.encoding import Encoder, Rejected
from grandrounds.engines.protocol import Completion, Request, seed_of
from grandrounds.params import Sampling, TransformersEngine

GIB = 2**30
Asked = list[Request]  # the samples of one prompt


@dataclass(frozen=True)
class Plan:
    """Batches of prompts; in one batch all have as many samples. What cannot be asked stands apart, with the reason."""

    batches: list[list[Asked]]
    refused: dict[str, str]
    bytes: int  # the largest batch's, estimated

    def __str__(self) -> str:
        if not self.batches:
            return "nothing to generate"
        largest = max(self.batches, key=lambda batch: sum(map(len, batch)))
        return (
            f"{len(self.batches)} batches of up to {len(largest)} prompts x {len(largest[0])} samples, "
            f"about {self.bytes / GIB:.2f} GiB beside the weights"
        )


class LocalEngine:
    """A loaded model and its encoder."""

    def __init__(self, model: Any, encoder: Encoder, seed: int, settings: TransformersEngine | None = None) -> None:
        self.model, self.encoder, self.seed = model, encoder, seed
        self.settings = settings or TransformersEngine()
        self._needs = _Needs.of(model)

    def generate(
        self, requests: Iterable[Request], sampling: Sampling, done: Container[str] = ()
    ) -> Iterator[Completion]:
        plan = self.plan(requests, sampling)
        print(f"  {plan}", flush=True)
        for name, problem in plan.refused.items():
            if name not in done:
                yield Completion(name, "", 0, False, problem)
        for batch in plan.batches:
            if any(each.id not in done for asked in batch for each in asked):
                yield from self._answer(batch, sampling)

    def plan(self, requests: Iterable[Request], sampling: Sampling) -> Plan:
        """Batches of like prompts, which end at about the same time, as large as settings and memory allow.

        Equal prompts stand in order of id, so that the order of requests does not matter.
        """
        prompts: dict[tuple[str, Any], Asked] = {}
        for each in sorted(requests, key=lambda each: (each.sample, each.id)):
            prompts.setdefault((each.question.id, each.form), []).append(each)
        refused: dict[str, str] = {}
        sized: list[tuple[int, Asked]] = []
        for asked in prompts.values():
            length, problem = self._length(asked[0], sampling)
            if problem:
                refused |= {each.id: problem for each in asked}
            else:
                pieces = range(0, len(asked), self.settings.batch)
                sized += [(length, asked[i : i + self.settings.batch]) for i in pieces]
        sized.sort(key=lambda one: (not one[1][0].form.thinking, len(one[1]), one[0], one[1][0].id))
        batches: list[list[Asked]] = []
        most = 0
        for length, asked in sized:
            joined = [*batches[-1], asked] if batches and len(batches[-1][0]) == len(asked) else []
            needed = self._needs.bytes(len(joined), length, len(asked), sampling)
            if joined and len(joined) * len(asked) <= self.settings.batch and needed <= self.settings.memory * GIB:
                batches[-1] = joined
            else:
                batches.append([asked])
                needed = self._needs.bytes(1, length, len(asked), sampling)
            most = max(most, needed)
        return Plan(batches, refused, most)

    def _length(self, request: Request, sampling: Sampling) -> tuple[int, str]:
        """A prompt's tokens, and why it cannot be asked, if it cannot."""
        try:
            length = len(self.encoder.prompt(request.question, request.form).ids)
        except Rejected as error:
            return 0, str(error)
        room = self._needs.context
        if length + sampling.max_new_tokens > room:
            return length, (
                f"a prompt of {length:,} tokens and {sampling.max_new_tokens:,} new ones pass the model's context of "
                f"{room:,}"
            )
        return length, ""

    def _answer(self, batch: list[Asked], sampling: Sampling) -> Iterator[Completion]:
        prompts = [self.encoder.prompt(asked[0].question, asked[0].form) for asked in batch]
        seeds = [[seed_of(self.seed, each.id) for each in asked] for asked in batch]
        drawn = decoding.draw(self.model, self.encoder, prompts, seeds, sampling)
        for asked, samples in zip(batch, drawn, strict=True):
            for each, sample in zip(asked, samples, strict=True):
                text = each.form.prefill + self.encoder.decode(sample.ids)
                yield Completion(each.id, text, len(sample.ids) + sample.finished, sample.finished)


@dataclass(frozen=True)
class _Needs:
    """What a batch takes beside the weights. An estimate from above: of attention's own room nothing is known here."""

    cache: int  # bytes of keys and values for a token
    work: int  # bytes of activations for a prompt's token, while it is encoded
    logits: int  # bytes of scores and chances for a sample
    context: int  # tokens that a prompt and its answer may have

    @classmethod
    def of(cls, model: Any) -> "_Needs":
        config = model.config.get_text_config()
        size = model.dtype.itemsize
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return cls(
            cache=2 * config.num_hidden_layers * heads * width * size,
            work=(6 * config.hidden_size + 3 * config.intermediate_size) * size,
            logits=config.vocab_size * (size + 4 + 8),  # as they come, float32 chances, float64 sums
            context=config.max_position_embeddings,
        )

    def bytes(self, prompts: int, length: int, samples: int, sampling: Sampling) -> int:
        """Of `prompts` prompts of `length` tokens, each with so many samples."""
        each = self.cache * sampling.max_new_tokens + self.logits
        return prompts * (length * (self.cache + self.work) + samples * each)
