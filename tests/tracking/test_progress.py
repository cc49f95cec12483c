import pytest

from grandrounds.tracking import progress as module
from grandrounds.tracking.progress import duration, progress


def test_a_log_gets_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    clock = iter(range(0, 10_000, 3))
    monkeypatch.setattr(module.time, "monotonic", lambda: float(next(clock)))
    with progress(1000, "grpo rarl") as advance:
        for _ in range(20):
            advance(5, reward=0.123456, stage="late")
    lines = capsys.readouterr().out.splitlines()
    assert 3 <= len(lines) <= 20
    assert lines[0].startswith("  grpo rarl: ") and "/1000" in lines[0] and "left" in lines[0]
    assert "reward 0.1235  stage late" in lines[0] and "\r" not in lines[0]


def test_a_short_loop_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(3, "short") as advance:
        advance()
    assert capsys.readouterr().out == ""


def test_durations() -> None:
    assert [duration(each) for each in (0.04, 59.9, 185, 7800)] == ["0.0 s", "59.9 s", "3 min 05 s", "2 h 10 min"]
