"""The conflict report is the same bytes whatever the number of threads."""

from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from grandrounds import params
from grandrounds.domain.adapters import LoraFactors, LoraUpdate
from grandrounds.lora import save_update
from tasks import merge

PARAMS = params.load(Path(__file__).parents[2] / "params.yaml")


def update(seed: int) -> LoraUpdate:
    rng = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=rng)  # noqa: E731
    return LoraUpdate(
        {
            f"model.layers.{layer}.self_attn.{name}": LoraFactors(draw(8, 192), draw(192, 8), 2.0)
            for layer in range(2)
            for name in ("q_proj", "v_proj")
        }
    )


@contextmanager
def untracked(*_: object, **__: object):
    yield SimpleNamespace(finish=lambda metrics: None)


def test_conflicts_are_measured_under_one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(merge, "stage_run", untracked)
    item = PARAMS.merge.items["experts"]
    for seed, path in enumerate([*item.updates.values(), item.beside.path]):
        save_update(path, update(seed))
    seen = []

    def compare_all(*given: object) -> object:
        seen.append(torch.get_num_threads())
        return measured(*given)

    measured = merge.compare_all
    monkeypatch.setattr(merge, "compare_all", compare_all)
    written, before = [], torch.get_num_threads()
    for threads in (1, 2):
        monkeypatch.setenv("OMP_NUM_THREADS", str(threads))  # as merge's own threads
        torch.set_num_threads(threads)
        merge.main("experts", PARAMS)
        assert torch.get_num_threads() == threads
        written.append(Path("data/conflicts/experts.parquet").read_bytes())
    torch.set_num_threads(before)
    assert seen == [1, 1] and written[0] == written[1]
