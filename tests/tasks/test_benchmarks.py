"""Benchmarks through curate, predict and judge, in the published layouts, with an engine that knows the answers."""

import hashlib
import json
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import layouts
import pytest
import yaml
from loopback import Server

from grandrounds import asking, files
from grandrounds.engines import factory
from grandrounds.engines.protocol import Completion
from grandrounds.errors import UserError
from grandrounds.params import Params, check
from grandrounds.params.benchmarks import ready
from grandrounds.records import Prediction, Question, Verdict
from grandrounds.tracking.stage import StageRun
from tasks import curate, judge, predict

ROOT = Path(__file__).parents[2]
TINY = {"type": "embedded", "pretrain": 60, "train": 30, "val": 20, "test": 20, "unseen": 20}
SETS = ("medvlthinker_eval", "cv_bench")
FINE = json.dumps({"evaluation": "fine", "reasoning_score": 1, "prediction_score": 1})


def benchmarks(root: Path) -> dict[str, Any]:
    return {
        "slake": {"published": "medvlthinker_slake", "source": {"path": str(root / "medvlthinker_eval")}, "rows": 3,
                  "prompts": ["reasoning", "text_only"], "samples": 4},
        "cv": {"published": "cv_bench", "source": {"path": str(root / "cv_bench")}, "rows": None},
        "mine": {"source": {"type": "table", "path": str(root / "mine.csv")}, "metric": "bertscore"},
    }  # fmt: skip


def params(given: dict[str, Any], judges: dict[str, Any] | None = None, **judging: Any) -> Params:
    raw = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    raw["curate"]["sources"] = {"embedded": TINY}
    raw["benchmarks"] = given
    raw["predict"]["splits"] = ["val"]
    raw["predict"]["arms"] = {name: raw["predict"]["arms"][name] for name in ("base", "sft")}
    raw["judge"] |= {"judges": judges or {"reference": {"type": "reference"}}, "resamples": 200, **judging}
    return check(raw)


class Knowing:
    """Right where it sees the picture, or there is none; a sample of odd number is wrong."""

    def generate(self, requests, sampling, done=()):
        for each in requests:
            q = each.question
            blind = q.modality == "image_text" and not q.image
            answer = "nothing" if blind or each.sample % 2 else q.answer
            text = (
                f"<answer>{answer}</answer>" if not each.form.thinking else f"<think>x</think><answer>{answer}</answer>"
            )
            yield Completion(each.id, text, 5, True)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)

    @contextmanager
    def unrecorded(stage, item, params, **_):  # what MLflow hears is another test's
        yield StageRun(stage, item, params)

    for task in (curate, predict, judge):
        monkeypatch.setattr(task, "stage_run", unrecorded)
    (tmp_path / "params.yaml").write_text("")
    (tmp_path / "data/sources").mkdir(parents=True)
    for name in SETS:
        (tmp_path / "sets" / name).mkdir(parents=True)
        getattr(layouts, name)(tmp_path / "sets" / name)
    rows = [{"question": f"What is {i}?", "answer": word} for i, word in enumerate(("a heart attack", "a fracture"))]
    layouts.table(tmp_path / "sets/mine.csv", rows)
    monkeypatch.setattr(factory, "make", lambda *_: Knowing())
    return tmp_path


def prints(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): hashlib.md5(p.read_bytes()).hexdigest() for p in folder.rglob("*.p*")}


def test_benchmarks_flow_through_as_further_splits(project: Path) -> None:
    curate.main(None, params({}))
    before = prints(project / "data/curated")
    settings = params(benchmarks(project / "sets"))
    curate.main(None, settings)
    after = prints(project / "data/curated")
    changed = {name for name in before if after[name] != before[name]}
    assert not changed  # what models are trained on is as it was
    assert {name for name in after if name.endswith(".parquet")} - set(before) == {
        f"benchmarks/{name}.parquet" for name in ("slake", "cv", "mine")
    }
    slake = files.read("data/curated/benchmarks/slake.parquet", Question)
    assert [each.split for each in slake] == ["slake"] * 3
    assert all((project / "data/curated/images" / name).resolve().is_file() for each in slake for name in each.images)
    account = files.read_json("reports/curate/metrics.json")
    assert account["sources"]["slake"]["role"] == "benchmark" and account["sources"]["slake"]["kept"] == 3
    assert account["read"] == account["kept"] + sum(account["dropped"].values())

    for arm in ("base", "sft"):
        predict.main(arm, settings)
    rows = [row for row in files.read("data/predictions/base.parquet", Prediction) if row.split == "slake"]
    assert [row.prompt for row in rows] == (["reasoning", "text_only"] + ["sampled"] * 4) * 3
    judge.main(None, settings)
    found = files.read_json("reports/judge/metrics.json")["base"]
    assert (found["slake"]["accuracy"], found["slake_text_only"]["accuracy"]) == (1.0, 0.0)
    assert found["slake"]["image_gain"]["difference"] == 1.0
    assert found["slake_sampled"]["pass_at"] == {"1": 0.5, "2": pytest.approx(5 / 6, abs=1e-6), "4": 1.0}
    assert set(found["cv"]["by_topic"]) == {each.topic for each in files.read(asking.sets(settings)["cv"], Question)}
    assert found["mine"]["bertscore"] == pytest.approx(1.0, abs=1e-3) and "bertscore" not in found["cv"]
    assert found["macro"]["sets"] == 3 and found["macro"]["accuracy"] == 1.0
    assert found["slake"]["delta_sft"]["ruling"] == "too few clusters"


def test_another_version_is_refused(project: Path) -> None:
    given = benchmarks(project / "sets")["slake"]
    with pytest.raises(UserError, match=r"^benchmarks\.slake\.rows: 416 questions are pinned, but the source gave 3"):
        curate.main(None, params({"slake": {**given, "rows": 416}}))
    with pytest.raises(UserError, match=r"^benchmarks\.slake\.sha256: 0+ is pinned, but"):
        curate.main(None, params({"slake": {**given, "sha256": "0" * 64}}))
    curate.main(None, params({"slake": given}))
    pin = files.read_json("data/curated/benchmarks/index.json")["slake"]
    curate.main(None, params({"slake": {**given, "rows": pin["rows"], "sha256": pin["sha256"]}}))


def test_what_training_has_of_a_benchmark_goes_from_training(project: Path) -> None:
    own = [{"question": f"What is {i}?", "answer": "a bone", "patient": f"p{i}"} for i in range(1, 9)]
    layouts.table(project / "data/sources/own.csv", own)
    raw = params({"mine": benchmarks(project / "sets")["mine"]}).model_dump(mode="json")
    raw["curate"]["sources"]["own"] = {"type": "table", "path": "data/sources/own.csv", "role": "train"}
    raw["curate"]["validation"] = 0
    curate.main(None, check(raw))
    left = {each.question for each in files.read("data/curated/train.parquet", Question) if each.source == "own"}
    assert left == {f"What is {i}?" for i in range(2, 9)}
    assert len(files.read("data/curated/benchmarks/mine.parquet", Question)) == 2


def test_only_a_changed_judge_calls_and_predictions_stay(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DVC_ROOT", str(project))
    server = Server(lambda number, body: FINE)
    one = {"llm": {"type": "openai", "model": "m", "endpoints": [server.url]}}
    given = {"mine": {**benchmarks(project / "sets")["mine"], "metric": "accuracy"}}
    settings = params(given, one)
    curate.main(None, settings)
    for arm in ("base", "sft"):
        predict.main(arm, settings)
    made = prints(project / "data/predictions")
    judge.main(None, settings)
    calls, verdicts = len(server.bodies), files.read("data/verdicts.parquet", Verdict)
    assert 0 < calls < len(verdicts)  # what both arms answered alike is one call
    judge.main(None, settings)
    assert len(server.bodies) == calls and files.read("data/verdicts.parquet", Verdict) == verdicts
    judge.main(None, params(given, one, prompt="Grade harder."))
    assert len(server.bodies) == 2 * calls
    judge.main(None, params(given, one | {"reference": {"type": "reference"}}))
    assert len(server.bodies) == 2 * calls and prints(project / "data/predictions") == made
    server.close()


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("test", {}, r"benchmarks\.test: 'test' is a name of the pipeline's own"),
        ("embedded", {}, r"benchmarks\.embedded: curate\.sources has that name too"),
        ("x_sampled", {}, r"benchmarks\.x_sampled: its end names a prompt"),
        ("x", {"published": "slak"}, r"benchmarks\.x: published: one of medvlthinker_pmc_vqa"),
        ("x", {"prompts": ["text_only"]}, r"benchmarks\.x: prompts: .* add it"),
        ("x", {"samples": 1}, r"benchmarks\.x: samples: one sample has no majority"),
        ("x", {"row": 3}, r"benchmarks\.x\.row: .*rows"),
    ],
)
def test_a_wrong_declaration_is_one_line(name: str, change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        params({name: {"source": {"type": "table", "path": "x.csv"}, **change}})
    assert "\n" not in str(error.value)


def test_every_published_benchmark_is_a_valid_declaration() -> None:
    given = {f"of_{name}": {"published": name, "source": {"path": "x"}} for name in ready()}
    found = params(given).benchmarks
    assert found["of_pmc_vqa_test"].source.files != found["of_pmc_vqa_test_clean"].source.files
    assert {each.rows for name, each in found.items() if "medvlthinker" in name} == {2000, 170, 3362, 416, 272}
    assert all(each.source.role == "test" for each in found.values())
