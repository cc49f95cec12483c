"""PEFT LoRA folders as :class:`LoraUpdate`, read and written without importing PEFT (5 s), same update, same bytes.

Read: `adapter_config.json` and `adapter_model.safetensors`; pickled weights are refused, for they can run code.
Written: scale 1 (`lora_alpha = r`), one rank for all modules (shorter ones padded with zeros, which changes nothing and
which every loader understands), full module names as targets, so that no other module of the base can match.
"""

from __future__ import annotations

import difflib
import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grandrounds import files
from grandrounds.domain.adapters import LoraFactors, LoraUpdate, all_modules, layer_of, pad
from grandrounds.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."
BASE = "models/base"

# What changes the update beyond scale * B A, or the base weights under it.
_REFUSED = (
    "alora_invocation_tokens",
    "arrow_config",
    "fan_in_fan_out",
    "kasa_config",
    "layer_replication",
    "lora_bias",
    "modules_to_save",
    "monteclora_config",
    "target_parameters",
    "trainable_token_indices",
    "use_bdlora",
    "use_dora",
    "use_qalora",
    "velora_config",
)
# These initialisations subtract from the base, so what is saved is not relative to the plain base; and MiCA is no LoRA.
_REFUSED_INITIALISATIONS = ("corda", "loftq", "lora_ga", "mica", "olora", "pissa")
_SETS = ("exclude_modules", "modules_to_save", "target_modules", "target_parameters")


@dataclass(frozen=True, slots=True, eq=False)
class Adapter:
    """A PEFT LoRA folder as it was read."""

    folder: Path
    config: dict[str, Any]
    update: LoraUpdate

    @property
    def base(self) -> str:
        """The base model that it names: a hub id or a path; "" where it names none."""
        return str(self.config.get("base_model_name_or_path") or "")

    def targets(self, module: str) -> bool:
        """Whether its config says that it updates this module of the base, as PEFT reads the config."""
        layers = self.config.get("layers_to_transform")
        if layers is not None and layer_of(module) not in ([layers] if isinstance(layers, int) else layers):
            return False
        asked, left_out = self.config.get("target_modules") or [], self.config.get("exclude_modules") or []
        return (asked == "all-linear" or _named(module, asked)) and not _named(module, left_out)


def load_update(path: str | Path) -> LoraUpdate:
    """:func:`read_adapter`, the update alone."""
    return read_adapter(path).update


def read_adapter(path: str | Path) -> Adapter:
    """A PEFT LoRA folder; its update in float32, by module name of the base model.

    Respects r, lora_alpha, rank_pattern, alpha_pattern and use_rslora. Raises UserError, naming file and key, for a
    missing or truncated file, for pickled weights, and for every adapter that is not plain LoRA on linear modules.
    """
    folder = files.need(path)
    if is_whole_model(folder):
        raise UserError(
            f"{folder}: is a whole model, not an adapter; only adapters are merged and gone on from: "
            "set adapt.training.method: lora"
        )
    config = _read_config(folder)
    pairs: dict[str, dict[str, Tensor]] = {}
    for key, tensor in _read_weights(folder).items():
        match = re.fullmatch(rf"{re.escape(PREFIX)}(.+)\.lora_(A|B)\.weight", key)
        if not match or tensor.ndim != 2:
            raise UserError(f"{folder / WEIGHTS}: '{key}' {[*tensor.shape]}: only LoRA on linear modules can be read")
        pairs.setdefault(match[1], {})[match[2]] = tensor.float()
    factors = {}
    for module, pair in pairs.items():
        if len(pair) < 2:
            raise UserError(f"{folder / WEIGHTS}: module {module} has lora_{''.join(pair)} only; {_back(folder)}")
        factors[module] = LoraFactors(pair["A"], pair["B"], _scale(folder, config, module, pair["A"].shape[0]))
    return Adapter(folder, config, LoraUpdate(factors, str(folder / WEIGHTS)))


def one_base(adapters: Mapping[str, Adapter]) -> str:
    """The base model of all adapters ("" where none names one).

    Raises UserError when two name different ones, and when an adapter lacks a module that its own config targets and
    another adapter has: a folder that lost a part. Adapters with other targets may lack what they like.
    """
    named = {name: each.base for name, each in adapters.items() if each.base}
    for name, base in named.items():
        if base != (first := next(iter(named.values()))):
            raise UserError(
                f"{adapters[name].folder / CONFIG}: base_model_name_or_path is '{base}', but '{next(iter(named))}' has "
                f"'{first}'; updates of different bases cannot be merged (if it is one model under two names, write "
                "the same name into both)"
            )
    for module in all_modules({name: each.update for name, each in adapters.items()}):
        for each in adapters.values():
            if module not in each.update and each.targets(module):
                raise UserError(
                    f"{each.folder / WEIGHTS}: module {module} is missing, which {CONFIG} targets; {_back(each.folder)}"
                )
    return next(iter(named.values()), "")


def is_whole_model(path: str | Path) -> bool:
    """Whether a folder holds all of a model's weights, as a full fine-tune writes them."""
    return Path(path, "config.json").is_file() and not Path(path, CONFIG).exists()


def save_update(path: str | Path, update: LoraUpdate, base: str = BASE) -> None:
    """Write a PEFT LoRA folder, whole or not at all. Same update, same bytes; PEFT loads it as it is."""
    with files.replacing(path) as folder:
        folder.mkdir()
        write_update(folder, update, _relative(base))


def write_update(folder: Path, update: LoraUpdate, base: str) -> None:
    """The two files of an adapter, into a folder that is there."""
    from safetensors.torch import save_file

    rank = update.rank
    tensors = {}
    for module, factors in update.items():
        padded = pad(factors, rank)
        tensors[f"{PREFIX}{module}.lora_A.weight"] = padded.a.contiguous()
        tensors[f"{PREFIX}{module}.lora_B.weight"] = padded.b.contiguous()
    config = {
        "base_model_name_or_path": base,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "modules_to_save": None,
        "peft_type": "LORA",
        "r": rank,
        "target_modules": sorted(update),
        "task_type": "CAUSAL_LM",
        "use_dora": False,
        "use_rslora": False,
    }
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    files.write_json(folder / CONFIG, config)


def normalise_config(path: str | Path, base: str = BASE) -> None:
    """Make a folder that PEFT's `save_pretrained` wrote the same for equal runs on any machine.

    PEFT writes sets in hash order and the base's path as it was given; and a README template with that path in it,
    which is removed (the model card is written by `publish`).
    """
    folder = Path(path)
    config = files.read_json(folder / CONFIG)
    for key in _SETS:
        if isinstance(config.get(key), list):
            config[key] = sorted(config[key])
    config |= {"base_model_name_or_path": _relative(base), "inference_mode": True, "revision": None}
    config.pop("runtime_config", None)
    files.write_json(folder / CONFIG, config)
    (folder / "README.md").unlink(missing_ok=True)


def load_adapter(model: Any, path: str | Path) -> None:
    """Fold an adapter folder into a loaded model's weights, in place: W + scale * B A, added in float32.

    Nothing is changed when it does not fit: UserError naming the first module that the model does not have, has in
    another shape, or whose weight it shares with another module (a tied embedding).
    """
    fold(model, load_update(path), str(path))


def fold(model: Any, update: LoraUpdate, name: str = "update") -> None:
    """:func:`load_adapter` for an update in memory."""
    import torch

    modules = dict(model.named_modules())
    owners: dict[int, list[str]] = {}
    for key, parameter in model.named_parameters(remove_duplicate=False):
        owners.setdefault(id(parameter), []).append(key)
    for module, factors in update.items():
        weight = getattr(modules.get(module), "weight", None)
        if weight is None:
            near = difflib.get_close_matches(module, modules, n=1, cutoff=0)
            missing = sum(other not in modules for other in update)
            raise UserError(
                f"{name}: module {module} is not in the base model ({missing} of {len(update)} are not; the nearest "
                f"there is '{''.join(near)}'): was the adapter trained on another base model?"
            )
        if tuple(weight.shape) != factors.shape:
            raise UserError(
                f"{name}: module {module} is {list(weight.shape)} in the base model and {list(factors.shape)} in the "
                "adapter: was it trained on another base model?"
            )
        if len(shared := owners[id(weight)]) > 1:
            raise UserError(f"{name}: module {module} shares its weight ({' = '.join(shared)}): cannot be folded")
    with torch.no_grad():
        for module, factors in update.items():
            weight = modules[module].weight
            weight.copy_((weight.float() + factors.dense().to(weight.device)).to(weight.dtype))


def _read_config(folder: Path) -> dict[str, Any]:
    file = folder / CONFIG
    config = files.read_json(file)
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        given = config.get("peft_type") if isinstance(config, dict) else None
        raise UserError(f"{file}: peft_type is {given!r}; only LORA adapters can be read")
    refused = [key for key in _REFUSED if config.get(key)]
    if config.get("bias", "none") != "none":
        refused.append("bias")
    if str(config.get("init_lora_weights", True)).lower().startswith(_REFUSED_INITIALISATIONS):
        refused.append("init_lora_weights")
    if refused:
        value = json.dumps(config[refused[0]])
        raise UserError(f"{file}: {refused[0]} is {value}: that is more than scale * B A, and cannot be merged exactly")
    for key in ("r", "lora_alpha"):
        if not isinstance(config.get(key), int | float) or config[key] <= 0:
            raise UserError(f"{file}: {key} is {config.get(key)!r}; a number above 0 is wanted")
    return config


def _read_weights(folder: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    file = folder / WEIGHTS
    pickled = sorted(path.name for path in folder.glob("adapter_model*") if path.suffix in (".bin", ".pt", ".pth"))
    if pickled and not file.exists():
        raise UserError(
            f"{folder / pickled[0]}: pickled weights can run code and are not read; save the adapter as {WEIGHTS} "
            "(PEFT: save_pretrained with safe_serialization=True)"
        )
    try:
        return load_file(files.need(file))
    except (SafetensorError, OSError) as error:
        raise UserError(f"{file}: not a whole safetensors file ({error}); {_back(file)}") from error


def _scale(folder: Path, config: dict[str, Any], module: str, rank: int) -> float:
    """alpha / r, or alpha / sqrt r for rsLoRA, under the patterns that PEFT matches: the first that ends the name."""
    wanted = _pattern(config.get("rank_pattern") or {}, module, config["r"])
    if wanted != rank:
        file = folder / WEIGHTS
        raise UserError(f"{file}: module {module} has rank {rank}, but {CONFIG} says {wanted}; {_back(folder)}")
    alpha = _pattern(config.get("alpha_pattern") or {}, module, config["lora_alpha"])
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _pattern(patterns: dict[str, float], module: str, default: float) -> float:
    return next((value for key, value in patterns.items() if re.match(rf"(.*\.)?({key})$", module)), default)


def _named(module: str, names: str | list[str]) -> bool:
    """PEFT's match: a text is a pattern of the whole name, a list has names or their ends."""
    if isinstance(names, str):
        return re.fullmatch(names, module) is not None
    return any(module == name or module.endswith(f".{name}") for name in names)


def _relative(base: str) -> str:
    if os.path.isabs(base):
        raise ValueError(f"the base model's path must be relative to the project folder, not {base}")
    return Path(base).as_posix()


def _back(path: Path) -> str:
    return files.HOW_TO_GET_BACK.format(path=path)
