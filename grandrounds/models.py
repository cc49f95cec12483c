"""Loading a transformers folder, for whoever trains, samples or merges."""

from pathlib import Path
from typing import Any

from grandrounds.files import need


def load(folder: str | Path, device: str, precision: str) -> tuple[Any, Any]:
    """(model, processor) of a transformers folder, safetensors only, in evaluation mode."""
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor

    folder = need(folder)
    model = AutoModelForImageTextToText.from_pretrained(
        folder, dtype=getattr(torch, precision), use_safetensors=True, trust_remote_code=False
    )
    return model.to(device).eval(), AutoProcessor.from_pretrained(folder, trust_remote_code=False)
