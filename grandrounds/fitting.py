"""`grandrounds doctor --recipe`: what each stage of a recipe asks of a GPU, whether it fits, and what to lower."""

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from grandrounds import files
from grandrounds.domain.memory import CONTEXT, GIB, MARGIN, SHAPES, Shape, Step, estimate, shape, smallest_accumulation
from grandrounds.errors import UserError
from grandrounds.params import HubModel, Params, RayEngine, VllmEngine

PROMPT = 512  # tokens of a question with instruction and options: long vignettes; docs/your-own-model.md
PATCH = 28  # a side, in pixels, of what becomes one visual token


@dataclass(frozen=True)
class Need:
    """What one stage asks of each GPU, in bytes by what holds them (`total` among them)."""

    stage: str
    bytes: dict[str, float]
    lower: str = ""  # how to make it fit; "" when it does, or when no limit is known


def gpus() -> list[float]:
    """Memory of each GPU of this machine in bytes, by the driver's own tool; empty without one."""
    if not shutil.which("nvidia-smi"):
        return []
    command = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return [float(line) * 2**20 for line in done.stdout.split() if line.isdecimal()] if done.returncode == 0 else []


def model_of(params: Params) -> Shape:
    """The sizes of the base model. UserError for one whose sizes are not known before it is fetched."""
    spec = params.base.model
    if isinstance(spec, HubModel) and spec.base.repository in SHAPES:
        return SHAPES[spec.base.repository]
    folder = spec.base if spec.type == "local" else Path("models/base")
    try:
        return shape(files.read_json(folder / "config.json"))
    except (KeyError, TypeError):
        raise UserError(f"{folder}/config.json: not a Qwen2-VL or Qwen2.5-VL model; its memory is not known") from None
    except UserError:
        raise UserError(
            f"base.model: the sizes of this {spec.type} model are known when {folder}/config.json is there, or for "
            f"{', '.join(SHAPES)}: `grandrounds run base` first"
        ) from None


def needs(params: Params, limit: float | None = None) -> Iterator[Need]:
    """Every stage that loads the model. `limit`: bytes of the smallest GPU, for what to lower."""
    model, width = model_of(params), 2 if params.compute.precision == "bfloat16" else 4
    for stage, engine, tokens in (
        ("filter", params.filter.engine, params.filter.sampling.max_new_tokens),
        ("predict", params.predict.engine, params.predict.sampling.max_new_tokens),
    ):
        key = f"{stage}.engine"
        if isinstance(engine, RayEngine):
            key, engine = f"{key}.holds", engine.holds
        if engine.type in ("transformers", "vllm"):
            yield _serving(stage, key, engine, model, width, tokens, limit)
    machine: dict[str, Any] = {"width": width, "devices": params.compute.processes * params.compute.machines}
    machine["sharded"] = params.compute.launch == "fsdp"
    for key, division, step in steps(params, model):
        found, room, lower = estimate(model, step, **machine), limit, ""
        if room and key.startswith("grpo") and params.compute.rollouts == "vllm_colocate":
            share = room * params.compute.vllm_memory  # vLLM keeps it through the update
            room -= share
            if found["weights"] * (machine["devices"] if machine["sharded"] else 1) > share:
                lower = f"compute.rollouts: vllm_server, for vLLM's share of {share / GIB:.0f} GiB is under the weights"
        if room and not lower and found["total"] > room:
            lower = _lower(model, step, f"{division}.accumulation", room, machine)
        yield Need(key, found, lower)


def steps(params: Params, model: Shape) -> Iterator[tuple[str, str, Step]]:
    """(stage, section of its accumulation, step) of every training."""
    picture = (params.curate.image_size_cap // PATCH) ** 2
    checkpointing = params.compute.gradient_checkpointing
    sft = params.adapt.training
    full = sft.method == "full"
    trained = model.language() if full else model.lora(sft.lora.r, sft.lora.targets)
    longest = params.distill.sampling.max_new_tokens
    if params.adapt.items:
        yield "adapt", "adapt.training", Step(
            sft.batch, PROMPT + picture, longest, trained, not full, sft.accumulation, checkpointing=checkpointing
        )  # fmt: skip
    for name, item in params.grpo.items.items():
        prompt = PROMPT + (picture if "image_text" in item.modalities else 0)
        yield f"grpo@{name}", f"grpo.items.{name}", Step(
            item.group * item.questions_per_step, prompt, item.max_new_tokens,
            model.lora(item.lora.r, item.lora.targets), True, item.accumulation,
            rollouts=params.compute.rollouts == "transformers", checkpointing=checkpointing,
        )  # fmt: skip


def _serving(
    stage: str, where: str, engine: object, model: Shape, width: int, tokens: int, limit: float | None
) -> Need:
    """Weights and room for caches: vLLM's share of the GPU, or what the transformers engine is given."""
    weights = float(model.parameters() * width)
    row = (PROMPT + tokens) * 2 * model.kv * model.layers * width
    if isinstance(engine, VllmEngine):
        room = max(float(row), engine.memory * limit - weights) if limit else float(row)
        key, share = f"{where}.memory", engine.memory
    else:
        room = engine.memory * GIB  # type: ignore[attr-defined]
        key, share = f"{where}.memory", 1.0
    total = weights + room + CONTEXT
    fits = limit is None or (weights + row + CONTEXT <= share * limit and total <= limit + CONTEXT)
    told = f"{key}, or {stage}.sampling.max_new_tokens; the weights alone are {weights / GIB:.1f} GiB"
    return Need(stage, {"weights": weights, "cache": room, "total": total}, "" if fits else told)


def _lower(model: Shape, step: Step, key: str, limit: float, machine: dict) -> str:
    """The first of these that fits: more micro-batches, activations computed again, weights in shards."""
    for change, said in (
        ({}, ""),
        ({"checkpointing": True}, "compute.gradient_checkpointing: true, and "),
    ):
        changed = replace(step, **change)
        if count := smallest_accumulation(model, changed, limit, **machine):
            return f"{said}{key}: {count}"
    for devices in (2, 4, 8, 16, 32, 64):
        sharded = {**machine, "devices": devices, "sharded": True}
        if count := smallest_accumulation(model, replace(step, checkpointing=True), limit, **sharded):
            return (
                f"compute.launch: fsdp over {devices} GPUs with gradient_checkpointing: true, and {key}: {count}; "
                "or fewer tokens, or a smaller model"
            )
    held = estimate(model, replace(step, accumulation=step.rows), **machine)
    return f"a smaller model or fewer tokens: {MARGIN * held['weights'] / GIB:.0f} GiB are weights alone"
