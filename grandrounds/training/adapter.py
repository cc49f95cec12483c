"""What of a loaded model is trained, a fresh LoRA or every weight, and its folder on disk, made deterministic."""

from pathlib import Path
from typing import Any

from grandrounds import files, runtime
from grandrounds.errors import UserError
from grandrounds.lora import normalise_config
from grandrounds.params import Lora
from grandrounds.training import states

VISION = ("visual", "vision_tower", "vision_model", "multi_modal_projector")


def attach(model: Any, settings: Lora) -> Any:
    """The model with a new LoRA on the language model's target modules; everything else, vision too, is frozen.

    Raises UserError when a target matches no module.
    """
    import torch
    from peft import LoraConfig, get_peft_model

    names = [name for name, _ in model.named_modules() if not any(part in VISION for part in name.split("."))]
    for target in settings.targets:
        if not any(name.endswith(f".{target}") for name in names):
            linear = [name for name in names if isinstance(model.get_submodule(name), torch.nn.Linear)]
            there = sorted({name.rpartition(".")[2] for name in linear} - {"lm_head"})
            raise UserError(f"lora.targets: '{target}' matches no module; this model has {', '.join(there)}")
    targets = [name for name in names if name.rpartition(".")[2] in settings.targets]
    config = LoraConfig(
        r=settings.r, lora_alpha=settings.alpha, lora_dropout=settings.dropout, target_modules=targets, bias="none"
    )
    return get_peft_model(model, config)


def unfreeze_language(model: Any) -> Any:
    """For a full fine-tune: every weight is trained but those of the vision tower, as with LoRA."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not any(part in VISION for part in name.split(".")))
    return model


def save_whole(model: Any, processor: Any, folder: str | Path) -> None:
    """Write a whole model with its processor, as `models/base` is. Every process has to call it; the first writes."""
    state = states.whole(model)
    if runtime.first():
        with files.replacing(folder) as temporary:
            model.save_pretrained(temporary, state_dict=state)
            processor.save_pretrained(temporary)


def save(model: Any, folder: str | Path) -> None:
    """Write the adapter whole or not at all; equal adapters give equal bytes.

    Every process of a training has to call it, for shards are gathered; the first writes.
    """
    state = states.whole(model)
    if not runtime.first():
        return
    with files.replacing(folder) as temporary:
        # default: not the copy of the start that TRL keeps as a reference
        model.save_pretrained(temporary, state_dict=state, selected_adapters=["default"])
        normalise_config(temporary)
