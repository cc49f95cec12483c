"""What has to be set before torch or a Hugging Face library is imported: offline mode, threads, quiet logs, seeds.

`dvc repro` is also typed by hand, so every task calls :func:`prepare` itself and relies on no shell or Makefile.
"""

import hashlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from grandrounds.errors import UserError
from grandrounds.params import FileSource, Params

OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
QUIET = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "TOKENIZERS_PARALLELISM": "false",  # it forks badly, and our batches are small
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",  # also switches off transformers' own bars
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "GIT_PYTHON_REFRESH": "quiet",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # only so that Ray does not announce its next version at every start
}


def prepare(params: Params) -> None:
    """Set the environment of this process and of those that it starts. Call before torch is imported.

    A variable that the user has set stays, except threads, where GRANDROUNDS_THREADS and params.yaml come first.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if not fetched(params):
        for name in OFFLINE:  # so that nothing ever waits for a network
            os.environ[name] = "1"
    threads = str(_threads(params))
    for name in THREADS:
        os.environ[name] = threads
    # cuBLAS is deterministic only with a fixed workspace, which it reads at its start
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    _quiet_warnings()
    if "torch" in sys.modules:
        torch_threads()


def fetched(params: Params) -> list[str]:
    """The repositories on the Hugging Face hub that the pipeline of these params reads."""
    sources = [each.repository for each in params.curate.sources.values() if isinstance(each, FileSource)]
    model = params.base.model
    models = [model.base.repository, model.teacher.repository] if model.type == "hub" else []
    return [*models, *filter(None, sources)]


def _threads(params: Params) -> int:
    """GRANDROUNDS_THREADS, else compute.threads, else OMP_NUM_THREADS, else every core that we may use."""
    ours = os.environ.get("GRANDROUNDS_THREADS") or "0"
    if not ours.isdecimal():
        raise UserError(
            f"GRANDROUNDS_THREADS: needs a whole number of threads, 0 for all cores, but {ours!r} was given"
        )
    theirs = os.environ.get("OMP_NUM_THREADS", "")
    return int(ours) or params.compute.threads or (int(theirs) if theirs.isdecimal() else 0) or _cores()


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only; respects cgroup cpusets and taskset
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _quiet_warnings() -> None:
    """Known noise that says nothing about our input. What is not named here is still shown."""
    for logger in ("alembic", "absl", "fsspec", "httpx", "filelock"):
        logging.getLogger(logger).setLevel(logging.WARNING)
    for pattern in (
        r".*`torch_dtype` is deprecated.*",
        r".*pin_memory.*no accelerator is found.*",
        r".*lr_scheduler\.step\(\).*before `?optimizer\.step\(\).*",
        r".*use_reentrant parameter should be passed explicitly.*",
        r".*TRL.*experimental.*",
        r".*gradient_checkpointing` is deprecated.*",  # TRL and PEFT still use transformers' old name
    ):
        warnings.filterwarnings("ignore", message=pattern)


def torch_threads() -> int:
    """The number of threads that this process may use; torch is told, if it is loaded already."""
    threads = int(os.environ.get("OMP_NUM_THREADS") or _cores())
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    return threads


@contextmanager
def one_thread() -> Iterator[None]:
    """For what LAPACK computes: its decompositions differ in the last bits with the number of threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def device(params: Params) -> str:
    """`cpu` or `cuda`, as compute.device says; `auto` takes a GPU when torch sees one. Of several processes its own."""
    wanted = params.compute.device
    if wanted == "cpu":
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return f"cuda:{os.environ['LOCAL_RANK']}" if "LOCAL_RANK" in os.environ else "cuda"
    if wanted == "cuda":
        raise UserError("compute.device: 'cuda' was given, but torch sees no GPU; use 'auto' or 'cpu'")
    return "cpu"


def loading_device(params: Params) -> str:
    """Where a model to be trained is loaded: what is to be sharded stays on the CPU, as whole it may fit no device."""
    return "cpu" if params.compute.launch == "fsdp" else device(params)


def first() -> bool:
    """Whether this process tracks and writes: the only one, or the first of several that train together."""
    return os.environ.get("RANK", "0") == "0"


def processes() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def derive_seed(seed: int, *names: str | int) -> int:
    """A seed in [0, 2**31) for one use: the same on every machine, another for other names."""
    text = "\x1f".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8"), digest_size=4).digest(), "big") >> 1


def seed_everything(seed: int) -> None:
    """Seed python, numpy and torch (which it imports: a stage without torch has no need of this)."""
    import random

    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)  # also every GPU


def use_deterministic() -> None:
    """Make torch take deterministic kernels on a GPU; where an operation has none, it warns and goes on.

    On the CPU the kernels that we use are deterministic as they are, and torch's switch would only cost time (it also
    fills every fresh tensor: training took twice as long).
    """
    import torch

    if torch.cuda.is_available():
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False
