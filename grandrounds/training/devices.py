"""What `compute` says of devices, as arguments of a transformers Trainer."""

from typing import Any

from grandrounds.errors import UserError
from grandrounds.params import Compute


def arguments(compute: Compute) -> dict[str, Any]:
    """Part of TrainingArguments: sharding, and what is kept of the forward pass."""
    found: dict[str, Any] = {"gradient_checkpointing": compute.gradient_checkpointing}
    if compute.gradient_checkpointing:
        found["gradient_checkpointing_kwargs"] = {"use_reentrant": False}
    if compute.launch == "fsdp":
        found |= {"fsdp": True, "fsdp_config": {"version": 2, "auto_wrap_policy": "TRANSFORMER_BASED_WRAP"}}
    elif compute.launch == "ddp":
        found["ddp_find_unused_parameters"] = False
    return found


def rollouts(compute: Compute, spread: bool) -> dict[str, Any]:
    """Part of GRPOConfig: who generates. `spread`: a group's rollouts stand under several prompts.

    Raises UserError for these on a vLLM server, which TRL sends only the first prompt of each group.
    """
    if compute.rollouts == "transformers":
        return {}
    if compute.rollouts == "vllm_server":
        if spread:
            raise UserError(
                "compute.rollouts: vllm_server asks one prompt a group, and guidelines are several; use vllm_colocate"
            )
        return {"use_vllm": True, "vllm_mode": "server", "vllm_server_base_url": compute.vllm_url}
    return {"use_vllm": True, "vllm_mode": "colocate", "vllm_gpu_memory_utilization": compute.vllm_memory}


def rows(batch: int, accumulation: int, processes: int) -> int:
    """Rows of one micro-batch on one process. Raises UserError when a batch does not divide."""
    if batch % (accumulation * processes):
        fits = [str(n) for n in range(1, batch + 1) if batch % (n * processes) == 0]
        raise UserError(
            f"adapt.training: a batch of {batch} does not divide into {accumulation} micro-batches on each of "
            f"{processes} processes; accumulation: {', '.join(fits[:8]) or 'none, but with another batch'} would"
        )
    return batch // (accumulation * processes)
