"""The state of a training as safetensors and JSON: weights, optimizer, random generators. No pickle."""

import json
import random
from pathlib import Path
from typing import Any

from grandrounds import files
from grandrounds.errors import UserError

RANDOM = "random"


def save(path: Path, tensors: dict[str, Any]) -> None:
    from safetensors.torch import save_file

    save_file({name: each.detach().contiguous().cpu() for name, each in tensors.items()}, path)


def load(path: Path) -> dict[str, Any]:
    """Tensors by name. Raises UserError for a file that is not whole."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(files.need(path))
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a whole safetensors file ({error}); remove {path.parent}") from error


def weights(model: Any, sharded: bool = False) -> dict[str, Any]:
    """What is trained, by name. Of a sharded model every process has to ask, and the first one is answered."""
    trained = {name for name, each in model.named_parameters() if each.requires_grad}
    if not sharded:
        return {name: each for name, each in model.named_parameters() if name in trained}
    return {name: each for name, each in (whole(model) or {}).items() if name in trained}


def whole(model: Any) -> dict[str, Any] | None:
    """All weights of a model whose shards lie on several devices, on the first process; None of one that is whole."""
    if not any(hasattr(each, "full_tensor") for each in model.parameters()):
        return None
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    return get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))


def load_weights(model: Any, path: Path, sharded: bool = False) -> None:
    """Put saved weights in place. Raises UserError, before anything is changed, when they are another model's."""
    import torch

    found = load(path)
    wanted = {name: each for name, each in model.named_parameters() if each.requires_grad}
    if odd := sorted(found.keys() ^ wanted.keys()):
        raise UserError(f"{path}: '{odd[0]}' is only in {'it' if odd[0] in found else 'the model'}: it was trained "
                        "from another base, or with another LoRA; remove the folder")  # fmt: skip
    for name, each in wanted.items():
        if each.shape != found[name].shape:
            raise UserError(
                f"{path}: '{name}' is {list(found[name].shape)}, in the model {list(each.shape)}: it was trained "
                "from another base; remove the folder"
            )
    if sharded:
        from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

        options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True, strict=False)
        set_model_state_dict(model, found, options=options)
        return
    with torch.no_grad():
        for name, each in wanted.items():
            each.copy_(found[name])


def optimizer_state(model: Any, optimizer: Any, sharded: bool = False) -> tuple[dict[str, Any], Any]:
    """(moments as tensors under `<parameter>/<name>`, the groups' settings as JSON)."""
    if sharded:
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict

        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        whole: Any = get_optimizer_state_dict(model, _plain(optimizer), options=options)
    else:
        whole = _plain(optimizer).state_dict()
    tensors = {f"{key}/{name}": each for key, row in whole.get("state", {}).items() for name, each in row.items()}
    return tensors, whole.get("param_groups", [])


def load_optimizer(model: Any, optimizer: Any, path: Path, groups: Any, sharded: bool = False) -> None:
    state: dict[Any, dict[str, Any]] = {}
    for key, tensor in load(path).items():
        parameter, _, name = key.rpartition("/")
        state.setdefault(parameter if sharded else int(parameter), {})[name] = tensor
    whole = {"state": state, "param_groups": groups}
    if sharded:
        from torch.distributed.checkpoint.state_dict import StateDictOptions, set_optimizer_state_dict

        options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
        set_optimizer_state_dict(model, _plain(optimizer), whole, options=options)
    else:
        _plain(optimizer).load_state_dict(whole)


def _plain(optimizer: Any) -> Any:
    """Without accelerate's wrapper."""
    return getattr(optimizer, "optimizer", optimizer)


def gather_random(accelerator: Any) -> list[dict[str, Any]]:
    """The states of python's, numpy's and torch's generators, of every process in turn."""
    from accelerate.utils import gather_object

    return gather_object([_random()]) if accelerator.num_processes > 1 else [_random()]


def _random() -> dict[str, Any]:
    import numpy as np
    import torch

    version, words, gauss = random.getstate()
    state: Any = np.random.get_state()
    kind, keys, *rest = state
    return {
        "python": [version, list(words), gauss],
        "numpy": [kind, keys.tolist(), *rest],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else torch.empty(0, dtype=torch.uint8),
    }


def save_random(folder: Path, states: list[dict[str, Any]]) -> None:
    tensors = {f"{i}/{name}": each[name] for i, each in enumerate(states) for name in ("torch", "cuda")}
    save(folder / f"{RANDOM}.safetensors", tensors)
    rest = [{name: each[name] for name in ("python", "numpy")} for each in states]
    (folder / f"{RANDOM}.json").write_text(json.dumps(rest), encoding="utf-8")


def load_random(folder: Path, process: int) -> None:
    """Raises UserError when the checkpoint was written by fewer processes."""
    import numpy as np
    import torch

    rest = files.read_json(folder / f"{RANDOM}.json")
    if process >= len(rest):
        raise UserError(f"{folder}: was written by {len(rest)} processes; resume with as many (compute.processes)")
    tensors = load(folder / f"{RANDOM}.safetensors")
    version, words, gauss = rest[process]["python"]
    random.setstate((version, tuple(words), gauss))
    kind, keys, *more = rest[process]["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *more))
    torch.set_rng_state(tensors[f"{process}/torch"])
    if torch.cuda.is_available() and len(tensors[f"{process}/cuda"]):
        torch.cuda.set_rng_state(tensors[f"{process}/cuda"])
