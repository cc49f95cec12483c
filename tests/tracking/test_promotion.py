"""pick, promote, rollback and restore, on the toy project with a real registry."""

import json
import random
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from grandrounds import cli, files
from grandrounds.errors import UserError
from grandrounds.records import Prediction, Question
from grandrounds.tracking import lineage, promotion, registry, restoring, selecting, store

VAL = {"base": 0.4, "sft": 0.9, "pediatrics": 0.6, "experts": 0.8}


def _question(number: int) -> Question:
    text = dict.fromkeys(("specialty", "topic", "question", "label", "explanation", "conclusion", "image"), "")
    return Question(
        id=f"q{number}", source="toy", split="val", group=f"patient {number // 3}", modality="text", kind="open_ended",
        options=[], answer="yes", synonyms=[], key_facts=[], **text,
    )  # fmt: skip


def answered(project: Any, arm: str, right: float, seed: int = 1, count: int = 240) -> None:
    """Predictions of an arm that has this share right; of two arms with one seed the better has all of the other."""
    rng = random.Random(seed)
    rows = [
        Prediction(
            arm=arm, question_id=f"q{number}", split="val", prompt="reasoning", completion="", tokens=1, finished=True,
            extracted=True, format_ok=True, answer="", correct=rng.random() < right, correct_lenient=False,
        )
        for number in range(count)
    ]  # fmt: skip
    files.write(project.root / f"data/predictions/{arm}.parquet", rows, Prediction)


@pytest.fixture
def published(project: Any) -> Any:
    project.pipeline()
    project.write("data/curated/val.parquet", "")
    files.write(project.root / "data/curated/val.parquet", [_question(number) for number in range(240)], Question)
    for arm, right in VAL.items():
        answered(project, arm, right)
    project.write("reports/judge/metrics.json", json.dumps(project.scores(**VAL)))
    registry.publish(project.params, project.scores(**VAL), {arm: f"# {arm}" for arm in VAL})
    return project


def typed(*words: str) -> str:
    """What a command prints; its UserError is raised."""
    done = CliRunner().invoke(cli.app, list(words), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def aliases() -> dict[str, str]:
    """Alias -> arm."""
    client, _ = store.connect()
    found = client.get_registered_model("grandrounds").aliases
    return {alias: client.get_model_version("grandrounds", number).tags["arm"] for alias, number in found.items()}


def empty_database(tables: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a clone. Elsewhere, since MLflow holds the first one open."""
    Path("clone").mkdir()
    shutil.copy(tables, "clone/mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{Path('clone/mlflow.db').resolve()}")


def test_pick_takes_the_best_that_holds_and_names_it(published: Any) -> None:
    shown = typed("pick", "--where", "val.accuracy > 0.5 and val.accuracy <= 0.8", "--alias", "challenger")
    rows = [line for line in shown.splitlines() if "0." in line]
    assert [row.split()[0] for row in rows] == ["*", "pediatrics"] and "experts" in rows[0]
    assert aliases()["challenger"] == "experts" and aliases()["champion"] == "sft"
    version = store.connect()[0].get_model_version_by_alias("grandrounds", "challenger")
    assert version.tags["picked"] == "challenger: highest val.accuracy where val.accuracy > 0.5 and val.accuracy <= 0.8"
    assert "base" in typed("pick", "--ascending") and aliases()["challenger"] == "experts"  # only shown


def test_pick_says_what_is_wrong_and_moves_nothing(published: Any) -> None:
    before = aliases()
    for words, problem in {
        ("--where", "val.acuracy > 0.5"): "unknown metric 'val.acuracy': did you mean 'val.accuracy'",
        ("--where", "val.accuracy > 0.99"): "none of 4 models holds",
        ("--where", "__import__('os').system('true')"): "cannot read '__import__",
        ("--where", "val.accuracy > 0.5 or val.accuracy < 1"): "cannot read 'val.accuracy > 0.5 or",
        ("--where", "val.accuracy > 1e999"): "cannot read",
        ("--where", "test.accuracy > 0.5"): "models are chosen on 'val' alone; test is only reported",
        ("--order-by", "test.accuracy"): "chosen on 'val' alone",
        ("--alias", "champion"): "only a test moves it",
        ("--alias", "v3"): "expected a name",
        ("--checkpoints",): "no training has logged a checkpoint",
    }.items():
        with pytest.raises(UserError, match=re.escape(problem)):
            typed("pick", "--alias", "challenger", *words)
    assert aliases() == before


def test_only_a_model_that_is_not_worse_is_promoted_and_can_be_rolled_back(published: Any) -> None:
    with pytest.raises(UserError, match=r"version 4\).*-\d+\.\d points.*not shown to be not worse.*champion stays"):
        typed("promote", "grandrounds@experts")
    assert aliases()["champion"] == "sft" and "previous" not in aliases()
    answered(published, "experts", 0.92)
    registry.publish(published.params, published.scores(**VAL), {})  # judged anew: the same bytes, other answers
    assert "previous is version 2" in typed("promote", "grandrounds@experts")
    assert (aliases()["champion"], aliases()["previous"]) == ("experts", "sft")
    version = store.connect()[0].get_model_version_by_alias("grandrounds", "champion")
    assert (
        "promoted beside version 2: +" in version.tags["promotion"]
        and "240 questions of 80 groups" in version.description
    )
    with pytest.raises(UserError, match="is the champion already"):
        typed("promote", "grandrounds@experts")
    typed("rollback")
    assert (aliases()["champion"], aliases()["previous"]) == ("sft", "experts")
    lines = promotion.journal()
    assert [(line["action"], line["challenger"]["arm"]) for line in lines] == [
        ("refused", "experts"), ("promoted", "experts"), ("rolled back", "sft"),
    ]  # fmt: skip


def test_an_old_champion_is_compared_when_its_predictions_are_gone(published: Any) -> None:
    published.stage("adapt@generalist", ["models/base"], {"models/adapters/generalist": "trained anew"})
    answered(published, "sft", 0.2)
    registry.publish(published.params, published.scores(**VAL), {})
    with pytest.raises(UserError, match=r"\(version 5\) beside the champion \(version 2\): -7\d"):
        typed("promote", "grandrounds@sft")


def test_the_margin_is_of_the_lower_end_of_the_interval() -> None:
    """The same difference passes or not by how many questions it rests on, and few groups never pass."""

    def asked(count: int, lost: int) -> tuple[promotion.Answers, promotion.Answers]:
        right = {f"q{number}": [f"patient {number}", True] for number in range(count)}
        return {key: [group, int(key[1:]) >= lost] for key, (group, _) in right.items()}, right

    def passes(count: int, lost: int, margin: float = 0.05) -> bool:
        return bool(promotion.compare(*asked(count, lost), margin, 500, 7)["passed"])

    assert passes(2000, 60) and not passes(40, 2) and not passes(2000, 200)
    assert passes(20, 0) and not passes(14, 0)
    few = promotion.compare(*asked(14, 0), 1.0, 500, 7)
    assert "14 questions of 14 groups" in few["why"] and not few["passed"]


def test_a_model_without_answers_is_not_promoted(project: Any) -> None:
    project.pipeline()
    registry.publish(project.params, project.scores(**VAL), {})
    with pytest.raises(UserError, match=r"version 4 \(experts\): its answers on 'val' are not in the registry"):
        promotion.promote(project.params, "grandrounds", "experts")
    with pytest.raises(UserError, match=r"data/curated/val.parquet: missing; run `dvc checkout"):  # to ask it
        typed("promote", "grandrounds@experts")
    with pytest.raises(UserError, match="unknown alias 'previous'"):
        typed("rollback")


def test_restore_rebuilds_an_empty_database(published: Any, tables: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answered(published, "experts", 0.95)
    registry.publish(published.params, published.scores(**VAL), {})
    typed("promote", "grandrounds@experts")
    before, nodes = aliases(), [node.run_id for node in lineage.walk("grandrounds", "champion").nodes()]
    empty_database(tables, monkeypatch)
    done = restoring.restore(published.params)
    assert (done.runs, len(done.new), done.lost) == (5, 4, ())
    assert aliases() == before
    assert [node.run_id for node in lineage.walk("grandrounds", "champion").nodes()] == nodes
    version = store.connect()[0].get_model_version_by_alias("grandrounds", "champion")
    assert "points" in version.tags["promotion"]
    again = restoring.restore(published.params)
    assert again.new == () and again.aliases == done.aliases
    assert len(store.connect()[0].search_runs([store.connect()[1]])) == 5


def test_restore_says_which_champion_it_cannot_set(
    published: Any, tables: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published.write("reports/promotions.jsonl", json.dumps({
        "model": "grandrounds", "action": "promoted", "at": "2026-01-01", "why": "",
        "challenger": {"arm": "sft", "md5": "0" * 32}, "champion": {"arm": "", "md5": ""},
    }) + "\n")  # fmt: skip
    empty_database(tables, monkeypatch)
    done = restoring.restore(published.params)
    assert done.lost == (
        f"champion (sft, {'0' * 32}): its bytes are not in this checkout; `git checkout` the commit that has them",
    )
    assert selecting.scores_of({"val.accuracy": "0.5", "arm": "1", "val.note": "nan"}) == {"val.accuracy": 0.5}


def test_a_description_is_the_reason_and_the_card_without_its_front_matter() -> None:
    card = "---\nlanguage:\n- en\n---\n\n# sft\n\nFor research only.\n"
    plain = "# sft\n\nFor research only.\n"
    assert promotion.description(card, "") == promotion.description(plain, "") == plain
    said = promotion.description(card, "promoted")
    assert said == f"> promoted\n\n{plain}" and promotion.description(said, "refused") == f"> refused\n\n{plain}"
