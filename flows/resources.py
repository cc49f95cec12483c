"""What a stage holds besides cores, by params.yaml: a GPU, or an API. Tags of its task run, and whether a retry helps.

A limit on the tag `gpu` (`prefect concurrency-limit create gpu 1`) keeps two stages off one GPU, across all flows and
workers of a server. Only a stage that asks an API is ever run again by itself, and only if nobody answered there: the
engines have retried all else already, what was answered is kept, and the rest (a wrong key, a spent budget, a bug)
would fail the same way.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

from grandrounds.params import GeminiEngine, OpenAIEngine, Params

GPU, API = "gpu", "api"
NOBODY = "no endpoint answers"  # as grandrounds.engines.routing says it; that file is a dep of stages, hence not there
RETRY_DELAYS = [60.0, 300.0, 900.0]  # seconds: a server that restarts, one that is mended, one that is out for a while
REMOTE = OpenAIEngine | GeminiEngine


def tags(stage: str, params: Params) -> set[str]:
    """The tags of a stage of dvc.yaml; an item of a `foreach` has those of its stage."""
    name = stage.split("@")[0]
    api = name in set(_asking(params))
    gpu = name in _computing(params) and has_gpu(params)
    return ({API} if api else set()) | ({GPU} if gpu else set())


def _asking(params: Params) -> Iterator[str]:
    """Stages that ask a model behind an endpoint."""
    if params.curate.labeller is not None and isinstance(params.curate.labeller.engine, REMOTE):
        yield "curate"
    if isinstance(params.filter.engine, REMOTE):
        yield "filter"
    if isinstance(params.distill.teacher, REMOTE):
        yield "distill"
    if any(isinstance(judge, REMOTE) for judge in params.judge.judges.values()):
        yield "judge"


def _computing(params: Params) -> set[str]:
    """Stages that load a model, and so take the device that there is."""
    found = {"base", "adapt", "grpo", "predict"}
    if params.curate.labeller is not None and not isinstance(params.curate.labeller.engine, REMOTE):
        found.add("curate")
    if not isinstance(params.filter.engine, REMOTE):
        found.add("filter")
    if not isinstance(params.distill.teacher, REMOTE) and params.distill.teacher.type != "reference":
        found.add("distill")
    if params.merge.search is not None:
        found.add("merge")
    return found


def has_gpu(params: Params) -> bool:
    """As compute.device says; `auto` by NVIDIA's driver, for torch takes seconds to ask."""
    if params.compute.device != "auto":
        return params.compute.device == "cuda"
    return Path("/proc/driver/nvidia/version").is_file() or shutil.which("nvidia-smi") is not None
