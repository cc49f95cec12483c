"""Loading a transformers folder, for whoever trains, samples or merges."""

from pathlib import Path
from typing import Any

from grandrounds.files import need


def load(folder: str | Path, device: str, precision: str, attention: str = "auto") -> tuple[Any, Any]:
    """(model, processor) of a transformers folder, safetensors only, in evaluation mode.

    `attention` auto: FlashAttention 2 where the package is, on a GPU in bfloat16; else transformers' choice.
    """
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor
    from transformers.utils import is_flash_attn_2_available

    folder = need(folder)
    if attention == "auto":
        flash = device.startswith("cuda") and precision == "bfloat16" and is_flash_attn_2_available()
        attention = "flash_attention_2" if flash else ""
    model = AutoModelForImageTextToText.from_pretrained(
        folder,
        dtype=getattr(torch, precision),
        use_safetensors=True,
        trust_remote_code=False,
        attn_implementation=attention or None,
    )
    return model.to(device).eval(), AutoProcessor.from_pretrained(folder, trust_remote_code=False)
