"""compute: where stages run, and on how many devices `adapt` and `grpo` train."""

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from grandrounds.params.section import Section


class Compute(Section):
    """Where to run. Changes no result on the CPU but in the last bits; `device` and `precision` do change bytes.

    More processes share a step's rows: the batch stays what adapt and grpo say. Recipes for machines: recipes/compute.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["float32", "bfloat16"] = "float32"
    threads: Annotated[int, Field(ge=0)] = 0  # 0: all cores
    launch: Literal["plain", "ddp", "fsdp"] = "plain"  # ddp: a whole model on each device; fsdp: FSDP2, in shards
    processes: PositiveInt = 1  # on each machine, one a device
    machines: PositiveInt = 1  # each runs the same command, with GRANDROUNDS_MACHINE its number from 0
    address: str = "localhost:29500"  # host and port of machine 0
    gradient_checkpointing: bool = False  # activations are computed again rather than kept
    attention: Literal["auto", "sdpa", "eager", "flash_attention_2"] = "auto"  # auto: FlashAttention 2 where present
    rollouts: Literal["transformers", "vllm_colocate", "vllm_server"] = "transformers"  # of grpo, through TRL
    vllm_memory: Annotated[float, Field(gt=0, lt=1)] = 0.3  # share of each GPU that vllm_colocate takes
    vllm_url: str = "http://localhost:8000"  # of `trl vllm-serve`

    @model_validator(mode="after")
    def _launched(self) -> Self:
        if self.launch == "plain" and self.processes * self.machines > 1:
            raise ValueError("more than one process needs launch: ddp or fsdp")
        return self
