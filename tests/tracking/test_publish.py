"""The publish task on the toy project, with the real registry and the real report."""

import json
from pathlib import Path
from typing import Any

import pytest

from grandrounds.tracking import promotion, stage, store
from tasks.publish import main

INTERVAL = {"difference": 0.2, "low": 0.1, "high": 0.3}


def _figures(accuracy: float) -> dict[str, Any]:
    figures = {
        **{"n": 100, "groups": 30, "accuracy": accuracy, "low": accuracy - 0.1, "high": accuracy + 0.1},
        **{"lenient_accuracy": accuracy, "unparsed_rate": 0.0, "reasoning": 0.7},
        **{"delta_base": INTERVAL, "delta_sft": INTERVAL},
        **{f"by_{name}": {} for name in ("specialty", "modality", "kind", "topic")},
    }
    return {split: figures for split in ("val", "test", "unseen")}


@pytest.fixture
def judged(project: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    class Silent:
        run_id, problem = "b" * 32, ""

        def __init__(self, start: dict[str, Any]) -> None: ...

        def send(self, kind: str, **body: Any) -> None: ...

        def close(self, status: str) -> None: ...

    monkeypatch.setattr(stage, "Writer", Silent)
    project.pipeline()
    raw = project.params.model_dump(mode="json")
    raw["predict"]["arms"] = {name: raw["predict"]["arms"][name] for name in ("base", "sft", "experts")}
    project.params = type(project.params).model_validate(raw)
    metrics = {"base": _figures(0.4), "sft": _figures(0.7), "experts": _figures(0.8)}
    project.write("reports/judge/metrics.json", json.dumps(metrics))
    return project


def test_registry_report_and_table(judged: Any, capsys: pytest.CaptureFixture[str]) -> None:
    main(None, judged.params)
    shown = capsys.readouterr().out
    row = next(line for line in shown.splitlines() if line.strip().startswith("experts"))
    for cell in ("80.0", "80.0 [70.0, 90.0]", "+20.0 [+10.0, +30.0]", "champion, challenger"):
        assert cell in row
    metrics = json.loads(Path("reports/publish/metrics.json").read_text())
    assert (metrics["champion"], metrics["challenger"]) == ("experts", "experts")
    assert metrics["val_accuracy"] == {"base": 0.4, "sft": 0.7, "experts": 0.8}
    for name in ("report.html", "report.md"):  # whole hashes of the champion and its ancestors
        text = (Path("reports") / name).read_text()
        assert judged.md5("models/merged/experts") in text and judged.md5("data/curated/train.parquet") in text
    assert Path("reports/cards/experts.md").is_file()
    version = store.connect()[0].get_model_version_by_alias("grandrounds", "experts")
    assert version.description == promotion.description(Path("reports/cards/experts.md").read_text(), "")


def test_inside_an_experiment(judged: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("DVC_EXP_NAME", "sly-fox")
    main(None, judged.params)
    assert "nothing was registered" in capsys.readouterr().out
    assert store.connect()[0].search_registered_models() == []
    assert judged.md5("models/merged/experts") in Path("reports/report.md").read_text()
    assert json.loads(Path("reports/publish/metrics.json").read_text())["champion"] is None
