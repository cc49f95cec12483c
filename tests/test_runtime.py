import os
import subprocess
import sys
from pathlib import Path

import pytest

from grandrounds import runtime
from grandrounds.errors import UserError
from grandrounds.params import Params, check, load

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture
def params(monkeypatch: pytest.MonkeyPatch) -> Params:
    monkeypatch.setattr(os, "environ", dict(os.environ))  # prepare writes here, and nothing is left behind
    for name in (*runtime.OFFLINE, *runtime.THREADS, "GRANDROUNDS_THREADS"):
        os.environ.pop(name, None)
    return load(REPOSITORY / "params.yaml")


def _with(params: Params, section: str, **values: object) -> Params:
    raw = params.model_dump(mode="json")
    raw[section] |= values
    return check(raw)


def test_offline_unless_the_model_is_on_the_hub(params: Params) -> None:
    revision = {"repository": "a/b", "revision": "0" * 40}
    runtime.prepare(_with(params, "base", model={"type": "hub", "base": revision, "teacher": revision}))
    assert "HF_HUB_OFFLINE" not in os.environ
    sources = {"slake": {"type": "slake", "role": "test", "repository": "a/b", "revision": "0" * 40}}
    runtime.prepare(_with(params, "curate", sources={**params.model_dump()["curate"]["sources"], **sources}))
    assert "HF_HUB_OFFLINE" not in os.environ
    runtime.prepare(params)
    assert os.environ["HF_HUB_OFFLINE"] == os.environ["HF_DATASETS_OFFLINE"] == "1"
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_who_decides_the_threads(params: Params) -> None:
    runtime.prepare(params)
    assert int(os.environ["OMP_NUM_THREADS"]) == runtime._cores()
    os.environ["OMP_NUM_THREADS"] = "3"
    runtime.prepare(params)
    assert os.environ["MKL_NUM_THREADS"] == "3"
    runtime.prepare(_with(params, "compute", threads=2))
    assert os.environ["OMP_NUM_THREADS"] == "2"
    os.environ["GRANDROUNDS_THREADS"] = "1"
    runtime.prepare(_with(params, "compute", threads=2))
    assert runtime.torch_threads() == 1
    os.environ["GRANDROUNDS_THREADS"] = "many"
    with pytest.raises(UserError, match=r"GRANDROUNDS_THREADS.*'many'"):
        runtime.prepare(params)


def test_seeds_are_stable_and_apart() -> None:
    assert runtime.derive_seed(7, "adapt", "pediatrics") == 788987883  # another would change every result
    seeds = {runtime.derive_seed(7, "adapt", name, number) for name in ("a", "b", "a\x1f") for number in range(300)}
    assert len(seeds) == 900 and all(0 <= seed < 2**31 for seed in seeds)
    assert runtime.derive_seed(7, "ab", "c") != runtime.derive_seed(7, "a", "bc")


def test_importing_the_stage_module_loads_nothing_heavy() -> None:
    code = (
        "import sys; import grandrounds.tracking.stage, grandrounds.tracking.lineage, grandrounds.tracking.registry;"
        "sys.exit(', '.join({'torch', 'mlflow', 'dvc', 'transformers', 'pandas'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_decomposition_is_the_same_for_any_number_of_threads() -> None:
    import torch

    matrix = torch.randn(256, 256, generator=torch.Generator().manual_seed(7))
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            with runtime.one_thread():
                found.append(torch.linalg.svd(matrix)[0])
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*found)
