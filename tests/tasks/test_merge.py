import contextlib
from typing import Any

import pytest
from conftest import REPOSITORY

from grandrounds import runtime
from grandrounds.params import load
from tasks import merge


class Measured(Exception):
    """Ends the stage where the conflicts would be measured."""


def test_conflicts_are_measured_under_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their decompositions differ in the last bits with the number of threads, and DVC compares bytes."""
    import torch

    before, seen = torch.get_num_threads(), []

    def measure(*_: Any) -> None:
        seen.append(torch.get_num_threads())
        raise Measured

    monkeypatch.setattr(merge, "stage_run", lambda *_, **__: contextlib.nullcontext())
    monkeypatch.setattr(merge, "load_update", lambda path: path)
    monkeypatch.setattr(merge, "compare_all", measure)
    for name in runtime.THREADS:
        monkeypatch.setenv(name, "2")
    params = load(REPOSITORY / "params.yaml")
    try:
        assert runtime.torch_threads() == torch.get_num_threads() == 2
        with pytest.raises(Measured):
            merge.main("experts", params)
        assert seen == [1] and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
