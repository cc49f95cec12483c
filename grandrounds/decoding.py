"""Sampling from a transformers decoder, several samples a prompt: a prompt is encoded once, whatever its samples.

`generate(num_return_sequences=n)` copies a prompt n times, images and all, before its first layer. Here the prompt's
keys and values are computed once and stay one copy: each sample's queries read them in place, and beside them the
sample's own, which alone are kept per sample. Samples that have ended leave the batch, question by question.

A sample's random numbers come from a generator of its own, so its text does not depend on what else is in the batch. In
half precision attention is computed in float32 all the same: rounded scores depend on how far a prompt is padded, which
changed 2.4 % of sampled texts between batches of one prompt and of 32.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from grandrounds.encoding import Encoded, Encoder, collate
from grandrounds.errors import UserError
from grandrounds.params import Sampling

if TYPE_CHECKING:
    from torch import Tensor

ATTENTION = "grandrounds_shared_prefix"
PREFILL = "grandrounds_float32_prefill"  # of models in half precision
GROWTH = 64  # tokens by which a sample's room grows
SPARED = 0.8  # samples that have ended leave once the batch can shrink to this share


@dataclass(frozen=True, slots=True)
class Drawn:
    """One sample: its tokens without the end-of-turn token, and whether that came before the limit."""

    ids: list[int]
    finished: bool


def draw(
    model: Any, encoder: Encoder, prompts: Sequence[Encoded], seeds: Sequence[Sequence[int]], sampling: Sampling
) -> list[list[Drawn]]:
    """Samples of each prompt, one for each of its seeds; all prompts have the same number of seeds.

    Temperature 0 is greedy and needs no seeds' values. Raises UserError for a model whose attention is not plain: the
    layers must call transformers' attention interface, over all that came before.
    """
    import torch

    width = len(seeds[0])
    with torch.inference_mode(), _Shared(model, width) as shared:
        inputs = {name: value.to(model.device) for name, value in collate(encoder, prompts).items()}
        logits = shared.prefill(inputs).repeat_interleave(width, dim=0)
        noise = _uniforms([each for row in seeds for each in row], sampling).to(model.device)
        batch = _Batch(len(prompts), width, model.device)
        drawn = torch.full((len(prompts) * width, sampling.max_new_tokens), encoder.end, device=model.device)
        for step in range(sampling.max_new_tokens):
            tokens = choose(logits, noise[:, step], sampling)
            drawn[batch.rows, step] = tokens
            batch.alive &= tokens != encoder.end
            if step + 1 == sampling.max_new_tokens or not batch.alive.any():
                break
            kept = batch.shrink()
            if kept is not None:
                tokens, noise = tokens[kept], noise[kept]
                shared.select(batch.prompts, kept)
            logits = shared.step(tokens)
    samples = [_cut(ids, encoder.end) for ids in drawn.tolist()]
    return [samples[i : i + width] for i in range(0, len(samples), width)]


def choose(logits: "Tensor", noise: "Tensor", sampling: Sampling) -> "Tensor":
    """One token a row: the likeliest, or the one at `noise` in the cumulated probabilities of the nucleus.

    logits (N, V), noise (N,) in [0, 1) -> (N,). The nucleus is what is needed to reach top_p (Holtzman et al.,
    1904.09751), the likeliest token always with it.
    """
    import torch

    if sampling.temperature == 0:
        return logits.argmax(-1)
    chances = torch.softmax(logits.float() / sampling.temperature, dim=-1)
    if sampling.top_p == 1:
        return _invert(chances, noise)
    ordered, tokens = chances.sort(dim=-1, descending=True, stable=True)
    outside = ordered.cumsum(-1) - ordered >= sampling.top_p
    at = _invert(ordered.masked_fill(outside, 0.0), noise)
    return tokens.gather(-1, at[:, None])[:, 0]


def _invert(chances: "Tensor", noise: "Tensor") -> "Tensor":
    """The first place where the cumulated chances pass noise * their sum: never one whose chance is 0."""
    import torch

    cumulated = chances.double().cumsum(-1)
    at = torch.searchsorted(cumulated, noise[:, None] * cumulated[:, -1:], right=True)[:, 0]
    return at.clamp_(max=chances.shape[-1] - 1)


def _uniforms(seeds: Sequence[int], sampling: Sampling) -> "Tensor":
    """(samples, max_new_tokens) numbers in [0, 1), float64, each row from its own seed: the same on any device."""
    import torch

    if sampling.temperature == 0:
        return torch.empty(len(seeds), 1).expand(-1, sampling.max_new_tokens)
    generator = torch.Generator()
    rows = [
        torch.rand(sampling.max_new_tokens, generator=generator.manual_seed(seed), dtype=torch.float64)
        for seed in seeds
    ]
    return torch.stack(rows)


def _cut(ids: list[int], end: int) -> Drawn:
    finished = end in ids
    return Drawn(ids[: ids.index(end)] if finished else ids, finished)


class _Batch:
    """Which samples are still in the batch: `width` slots for each prompt left, ended samples filling the gaps."""

    def __init__(self, prompts: int, width: int, device: Any) -> None:
        import torch

        self.width = width
        self.rows = torch.arange(prompts * width, device=device)  # the sample in each slot
        self.alive = torch.ones(prompts * width, dtype=torch.bool, device=device)
        self.prompts = torch.arange(prompts, device=device)  # which of the prompts before the last shrinking are left

    def shrink(self) -> "Tensor | None":
        """The slots to keep, where enough samples have ended for it to be worth it; else None."""
        alive = self.alive.view(-1, self.width)
        count = alive.sum(-1)
        width, left = int(count.max()), count > 0
        if int(left.sum()) * width > SPARED * self.alive.numel():
            return None
        first = alive.int().argsort(dim=-1, descending=True, stable=True)[:, :width]  # those alive come first
        self.prompts = left.nonzero()[:, 0]
        kept = (self.prompts[:, None] * self.width + first[left]).flatten()
        self.width = width
        self.rows, self.alive = self.rows[kept], self.alive[kept]
        return kept


class _Layer:
    """One layer's keys and values: the prompts' (prompts, heads, length, size), and each sample's own."""

    def __init__(self, keys: "Tensor", values: "Tensor") -> None:
        self.keys, self.values = keys, values
        self._own: list[Tensor] = []  # two of (samples, heads, room, size)
        self.used = 0

    def append(self, *fresh: "Tensor") -> None:
        if not self._own or self.used == self._own[0].shape[2]:
            self._own = [self._grown(i, each) for i, each in enumerate(fresh)]
        for room, each in zip(self._own, fresh, strict=True):
            room[:, :, self.used] = each[:, :, 0]
        self.used += 1

    def _grown(self, which: int, fresh: "Tensor") -> "Tensor":
        samples, heads, _, size = fresh.shape
        room = fresh.new_empty(samples, heads, self.used + max(GROWTH, self.used // 2), size)
        if self.used:
            room[:, :, : self.used] = self._own[which]
        return room

    @property
    def own(self) -> "tuple[Tensor, Tensor]":
        keys, values = (each[:, :, : self.used] for each in self._own)
        return keys, values

    def select(self, prompts: "Tensor", samples: "Tensor") -> None:
        self.keys, self.values = self.keys[prompts], self.values[prompts]
        self._own = [each[samples] for each in self._own]


def attend(query: "Tensor", layer: _Layer, mask: "Tensor", scaling: float) -> "Tensor":
    """Attention of each sample's newest token over its prompt and its own tokens.

    query (samples, heads, 1, size), samples of a prompt side by side; mask (prompts, 1, 1, length), added to the
    scores -> (samples, 1, heads, size). One softmax over both parts, in float32.
    """
    import torch

    samples, heads, _, size = query.shape
    prompts, shared, length, _ = layer.keys.shape  # shared: key-value heads, each read by `heads // shared` queries
    width = samples // prompts
    keys, values = layer.own
    precision, query = query.dtype, (query.float() * scaling).reshape(samples, shared, heads // shared, size)

    def gathered(each: "Tensor") -> "Tensor":  # (samples, shared, group, n) -> (prompts, shared, width * group, n)
        if width == 1:
            return each
        return each.reshape(prompts, width, shared, -1, each.shape[-1]).transpose(1, 2).flatten(2, 3)

    def spread(each: "Tensor") -> "Tensor":  # and back
        if width == 1:
            return each
        return each.reshape(prompts, shared, width, -1, each.shape[-1]).transpose(1, 2).flatten(0, 1)

    before = gathered(query) @ layer.keys.float().transpose(-1, -2) + mask
    own = query @ keys.float().transpose(-1, -2)
    weights = torch.softmax(torch.cat([spread(before), own], dim=-1), dim=-1)
    found = spread(gathered(weights[..., :length]) @ layer.values.float()) + weights[..., length:] @ values.float()
    return found.reshape(samples, 1, heads, size).to(precision)


class _Shared:
    """A model with its prompts in memory. Stands in for transformers' cache: it hands attention both parts at once."""

    def __init__(self, model: Any, width: int) -> None:
        self.model, self.width = model, width
        self.config = model.config.get_text_config()
        kinds = set(getattr(self.config, "layer_types", None) or ["full_attention"])
        if kinds != {"full_attention"}:
            raise UserError(
                f"{self.config.model_type}: layers of {', '.join(sorted(kinds - {'full_attention'}))} cannot be "
                "sampled from in this process; use a model with full attention"
            )
        self._before = self.config._attn_implementation
        self._training = model.training
        _register()

    def __enter__(self) -> "_Shared":
        self.model.eval()
        return self

    def __exit__(self, *_: object) -> None:
        self.config._attn_implementation = self._before
        self.model.train(self._training)

    def prefill(self, inputs: dict[str, Any]) -> "Tensor":
        """Encode the prompts; the logits (prompts, vocabulary) after each."""
        mask = inputs["attention_mask"]
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        if self.model.dtype.itemsize < 4:
            self.config._attn_implementation = PREFILL
        spatial = "image_grid_thw" in inputs  # the model then works out its own positions
        output = self.model(
            **inputs, **({} if spatial else {"position_ids": positions}), use_cache=True, logits_to_keep=1
        )
        base = self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model
        moved = getattr(base.base_model, "rope_deltas", None) if spatial else None
        last = positions[:, -1:] + (0 if moved is None else moved.to(positions))
        self.layers = [_Layer(each.keys, each.values) for each in output.past_key_values.layers]
        self._position = last.repeat_interleave(self.width, dim=0)
        self._mask = (1 - mask[:, None, None].to(output.logits.dtype)) * _lowest(output.logits)
        self.config._attn_implementation = ATTENTION
        return output.logits[:, -1]

    def step(self, tokens: "Tensor") -> "Tensor":
        """Append one token to each sample; the logits (samples, vocabulary) after it."""
        self._position = self._position + 1
        output = self.model(
            input_ids=tokens[:, None], position_ids=self._position, attention_mask=self._mask,
            past_key_values=self, use_cache=True,
        )  # fmt: skip
        return output.logits[:, -1]

    def select(self, prompts: "Tensor", samples: "Tensor") -> None:
        """Keep some of the prompts, and of the samples."""
        self._position, self._mask = self._position[samples], self._mask[prompts]
        for layer in self.layers:
            layer.select(prompts, samples)

    # what a decoder's layers ask of a cache

    def update(self, keys: "Tensor", values: "Tensor", layer: int, *_: Any, **__: Any) -> tuple[_Layer, _Layer]:
        self.layers[layer].append(keys, values)
        return self.layers[layer], self.layers[layer]

    def get_seq_length(self, layer: int = 0) -> int:
        return self.layers[layer].keys.shape[2] + self.layers[layer].used


def _lowest(logits: "Tensor") -> float:
    import torch

    return torch.finfo(logits.dtype).min


def _register() -> None:
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import sdpa_mask

    def forward(module: Any, query: "Tensor", keys: _Layer, values: _Layer, mask: "Tensor", scaling: float, **_: Any):
        return attend(query, keys, mask, scaling), None

    def prefill(module: Any, query: "Tensor", keys: "Tensor", values: "Tensor", mask: "Tensor", **more: Any):
        mask = mask if mask is None or not mask.is_floating_point() else mask.float()
        found, weights = sdpa_attention_forward(module, query.float(), keys.float(), values.float(), mask, **more)
        return found.to(query.dtype), weights

    AttentionInterface.register(PREFILL, prefill)
    AttentionMaskInterface.register(PREFILL, sdpa_mask)
    AttentionInterface.register(ATTENTION, forward)
    AttentionMaskInterface.register(ATTENTION, sdpa_mask)  # never called: the mask is made here
