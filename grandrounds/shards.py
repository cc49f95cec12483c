"""A merged update folded into a checkpoint on disk, one module in memory at a time.

Every shard is copied as it is, and the bytes of the updated weights are written over those of the base: shapes and
types stay, so that header, index and all other tensors do too, and transformers loads the result as it loads the base.
"""

import json
import shutil
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from grandrounds import files
from grandrounds.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
PICKLED = (".bin", ".pt", ".pth", ".ckpt")
LEFT = (*PICKLED, ".gguf", ".h5", ".msgpack", ".md")  # files of a base that do not hold for what is made of it
TYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
# Modules as transformers names them now, and tensors as checkpoints of earlier versions do.
RENAMED = (("model.language_model.", "model."), ("model.language_model.", "language_model.model."),
           ("model.visual.", "visual."), ("lm_head.", "language_model.lm_head."))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Place:
    """Where a weight's bytes are."""

    file: str
    tensor: str
    dtype: str
    shape: tuple[int, ...]
    offset: int


def fold_into(base: str | Path, folder: Path, modules: Iterable[str], update: Callable[[str], "Tensor"]) -> None:
    """Copy the checkpoint `base` into `folder`, W + update(module) in place of W, added in float32.

    Everything is checked before anything is written: UserError, naming file and module, for pickled, truncated or
    quantised weights, and for a module that the base does not have, or has in another shape.
    """
    base = files.need(base)
    places = {module: _find(base, module, known) for known in [_tensors(base)] for module in modules}
    for file in sorted(base.iterdir()):
        if file.is_file() and file.suffix not in LEFT and not file.name.startswith("."):
            shutil.copyfile(file, folder / file.name)
    for module, place in places.items():
        _patch(base, folder, module, place, update(module))


def _tensors(base: Path) -> dict[str, Place]:
    """Every tensor of the checkpoint, from the headers of its shards."""
    if (base / INDEX).exists():
        names = sorted(set(files.read_json(base / INDEX).get("weight_map", {}).values()))
    else:
        names = [SINGLE]
    pickled = sorted(each.name for each in base.iterdir() if each.suffix in PICKLED)
    if pickled and not (base / names[0]).exists():
        raise UserError(
            f"{base / pickled[0]}: pickled weights can run code and are not read; save the base as safetensors "
            "(transformers: save_pretrained)"
        )
    return {place.tensor: place for name in names for place in _header(base, name)}


def _header(base: Path, name: str) -> Iterable[Place]:
    from safetensors import SafetensorError, safe_open

    file = files.need(base / name)
    try:
        with safe_open(file, "pt"):  # checks the header against the file's size
            pass
    except (SafetensorError, OSError) as error:
        raise UserError(f"{file}: not a whole safetensors file ({error}); fetch the base model again") from error
    with file.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        header = json.loads(stream.read(length))
    header.pop("__metadata__", None)
    for tensor, entry in header.items():
        yield Place(name, tensor, entry["dtype"], tuple(entry["shape"]), 8 + length + entry["data_offsets"][0])


def _find(base: Path, module: str, known: dict[str, Place]) -> Place:
    tensor = f"{module}.weight"
    renamed = [old + tensor.removeprefix(new) for new, old in RENAMED if tensor.startswith(new)]
    place = next((known[name] for name in (tensor, *renamed) if name in known), None)
    if place is None:
        raise UserError(f"{base}: has no weight {tensor}: were the adapters trained on another base model?")
    if place.dtype not in TYPES:
        raise UserError(
            f"{base / place.file}: {place.tensor} is {place.dtype}: quantised weights cannot be merged into; "
            "take the base model in float32, float16 or bfloat16"
        )
    return place


def _patch(base: Path, folder: Path, module: str, place: Place, update: "Tensor") -> None:
    import torch
    from safetensors import safe_open

    if tuple(update.shape) != place.shape:
        raise UserError(
            f"{base / place.file}: {place.tensor} is {list(place.shape)}, and the update of module {module} is "
            f"{list(update.shape)}: were the adapters trained on another base model?"
        )
    with safe_open(base / place.file, "pt") as shard:
        weight = shard.get_tensor(place.tensor)
    merged = weight.float().add_(update).to(getattr(torch, TYPES[place.dtype])).contiguous()
    with (folder / place.file).open("r+b") as stream:
        stream.seek(place.offset)
        stream.write(merged.view(torch.uint8).numpy())
