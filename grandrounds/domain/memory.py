"""GPU memory of a training step by arithmetic, before anything is loaded: what is held, in bytes, and for how long.

Counts are of Qwen2-VL and Qwen2.5-VL models from their configuration. Held through a step: weights, the KL term's
reference, gradients, AdamW's two moments. Held while it lasts: activations and scores of one micro-batch (update), or
keys and values of the rows that are decoded together (rollouts): of these two the larger one counts. Terms per token
and layer follow Korthikanti et al. (2205.05198), for SwiGLU, grouped queries and an attention that keeps no matrix of
scores. It is an estimate: allocators fragment, and libraries hold buffers of their own (`MARGIN`, `CONTEXT`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

GIB = 2**30
CONTEXT = 1.0 * GIB  # the CUDA context and libraries' work space
MARGIN = 1.1  # fragmentation
SCORE_COPIES = 3  # of the vocabulary's scores at a position: as computed, in float32, and their gradient


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a Qwen2(.5)-VL model; names as in its config.json, `vision_*` for the tower's."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int
    tied: bool  # embeddings and output share their weights
    vision_hidden: int = 1280
    vision_layers: int = 32
    vision_intermediate: int = 3420
    gated: bool = True  # the tower's MLP: Qwen2.5-VL's is gated and its norms have no bias; Qwen2-VL's is plain

    @property
    def head(self) -> int:
        return self.hidden // self.heads

    @property
    def kv(self) -> int:
        """Width of the keys, and of the values, of a token in a layer."""
        return self.kv_heads * self.head

    def projections(self) -> dict[str, tuple[int, int]]:
        """The linear modules of a language layer: (inputs, outputs)."""
        h, i = self.hidden, self.intermediate
        return {
            "q_proj": (h, h), "k_proj": (h, self.kv), "v_proj": (h, self.kv), "o_proj": (h, h),
            "gate_proj": (h, i), "up_proj": (h, i), "down_proj": (i, h),
        }  # fmt: skip

    def language(self) -> int:
        """Parameters of the language model, embeddings and output included."""
        linear = sum(inputs * outputs for inputs, outputs in self.projections().values())
        layer = linear + self.hidden + 2 * self.kv + 2 * self.hidden  # biases of q, k, v; two norms
        ends = self.vocabulary * self.hidden * (1 if self.tied else 2)
        return self.layers * layer + ends + self.hidden

    def vision(self) -> int:
        """Parameters of the tower and of the merger that hands its features to the language model."""
        h, i = self.vision_hidden, self.vision_intermediate
        attention = 3 * h * h + 3 * h + h * h + h
        mlp = 3 * h * i + 2 * i + h if self.gated else 2 * h * i + i + h
        norms = 2 * h if self.gated else 4 * h
        wide = 4 * h  # 2 x 2 patches become one token
        merger = wide * wide + wide + wide * self.hidden + self.hidden + (h if self.gated else 2 * h)
        patches = 3 * 2 * 14 * 14 * h
        return self.vision_layers * (attention + mlp + norms) + merger + patches

    def parameters(self) -> int:
        return self.language() + self.vision()

    def lora(self, rank: int, targets: Sequence[str]) -> int:
        """Parameters of a LoRA on the language model's target modules."""
        sizes = self.projections()
        return self.layers * rank * sum(sum(sizes[target]) for target in targets if target in sizes)


SHAPES = {
    "Qwen/Qwen2-VL-2B-Instruct": Shape(1536, 8960, 28, 12, 2, 151936, True, vision_intermediate=5120, gated=False),
    "Qwen/Qwen2.5-VL-3B-Instruct": Shape(2048, 11008, 36, 16, 2, 151936, True),
    "Qwen/Qwen2.5-VL-7B-Instruct": Shape(3584, 18944, 28, 28, 4, 152064, False),
    "Qwen/Qwen2.5-VL-32B-Instruct": Shape(5120, 27648, 64, 40, 8, 152064, False, vision_intermediate=3456),
}


def shape(config: Mapping[str, Any]) -> Shape:
    """The sizes in a config.json, old or new layout. KeyError for one that is no Qwen2(.5)-VL's."""
    text, vision = config.get("text_config") or config, config["vision_config"]
    gated = config["model_type"] == "qwen2_5_vl"
    width = vision.get("hidden_size" if gated else "embed_dim", 1280)
    inner = vision.get("intermediate_size", 3420) if gated else round(width * vision.get("mlp_ratio", 4))
    return Shape(
        text["hidden_size"], text["intermediate_size"], text["num_hidden_layers"], text["num_attention_heads"],
        text["num_key_value_heads"], text["vocab_size"], bool(config.get("tie_word_embeddings")), width,
        vision.get("depth", 32), inner, gated,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Step:
    """One optimizer step of a training, as params.yaml describes it."""

    rows: int  # of the step, on all devices
    prompt: int  # tokens a row, picture included
    completion: int
    trainable: int  # parameters
    adapter: bool  # LoRA, in float32; else the weights themselves, in the model's precision
    accumulation: int = 1  # micro-batches a step
    reference: bool = False  # a second set of weights: full fine-tuning with a KL term
    rollouts: bool = False  # completions are decoded here first
    checkpointing: bool = False  # activations of a layer are computed again in the backward pass


def estimate(model: Shape, step: Step, width: int = 2, devices: int = 1, sharded: bool = False) -> dict[str, float]:
    """Bytes on each of `devices` by what holds them, and their `total`.

    `width`: bytes of a weight, 2 (bfloat16) or 4. `sharded`: FSDP, each device holds its part of weights, gradients and
    moments; else each has them whole, and rows are shared out.
    """
    parts = devices if sharded else 1
    wide = 4 if step.adapter else width
    rows = -(-step.rows // (devices * step.accumulation))
    held = {
        "weights": model.parameters() * width / parts,
        "reference": model.parameters() * width / parts if step.reference else 0.0,
        "gradients": step.trainable * wide / parts,
        "optimizer": 2.0 * step.trainable * wide / parts,
    }
    fleeting = {
        "activations": _activations(model, step, rows, width),
        "scores": float(rows * (step.completion + 1) * model.vocabulary * 4 * SCORE_COPIES),
        "cache": _cache(model, step, -(-step.rows // devices), width) if step.rollouts else 0.0,
    }
    update = fleeting["activations"] + fleeting["scores"]
    total = CONTEXT + MARGIN * (sum(held.values()) + max(update, fleeting["cache"]))
    return {**held, **fleeting, "total": total}


def _activations(model: Shape, step: Step, rows: int, width: int) -> float:
    """Of one micro-batch: all layers, or with checkpointing each layer's input and one layer whole."""
    tokens = rows * (step.prompt + step.completion)
    # two norms' inputs and outputs, q, the attention's output, k and v; gate, up, their product and the gate's value
    layer = tokens * width * (4 * model.hidden + 2 * model.hidden + 2 * model.kv + 4 * model.intermediate)
    if step.checkpointing:
        return float(model.layers * tokens * width * model.hidden + layer)
    return float(model.layers * layer)


def _cache(model: Shape, step: Step, rows: int, width: int) -> float:
    """Keys and values of all rows of a step, decoded at once."""
    return float(rows * (step.prompt + step.completion) * 2 * model.kv * model.layers * width)


def smallest_accumulation(model: Shape, step: Step, limit: float, **machine: Any) -> int | None:
    """The least division of a step into micro-batches that fits into `limit` bytes a device; None: none does."""
    from dataclasses import replace

    fits = [n for n in range(1, step.rows + 1) if step.rows % n == 0]
    return next((n for n in fits if estimate(model, replace(step, accumulation=n), **machine)["total"] <= limit), None)
