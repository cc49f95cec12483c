import pytest
import yaml
from conftest import REPOSITORY

from grandrounds.errors import UserError
from grandrounds.params import load
from grandrounds.reporting.cards import card, locked
from grandrounds.reporting.collect import collect
from grandrounds.reporting.stages import ancestors, chain, drawn, reinforced, steps


def front(text: str) -> dict:
    _, head, _ = text.split("---\n", 2)
    return yaml.safe_load(head)


def test_a_card_has_the_hubs_front_matter_the_md5_and_the_chain(written):
    text = card(collect(written.root, written.params), "mmedexpert")
    head = front(text)
    assert head["license"] == "apache-2.0" and head["library_name"] == "peft" and "research-only" in head["tags"]
    results = head["model-index"][0]["results"]
    assert [each["dataset"]["split"] for each in results] == ["val", "test", "unseen"]
    assert locked(written.root)["models/merged/unified"] in text
    assert (
        text.index("**curate**")
        < text.index("**merge: experts**")
        < text.index("**grpo: mmedexpert**")
        < text.index("**merge: unified**")
    )
    assert "adapt: adult medicine twin" not in text  # the twin is a yardstick, no part of the model
    assert "never for clinical use" in text and "slabs are not patients" in text


def test_a_card_says_how_to_load_it(written):
    text = card(collect(written.root, written.params), "mmedexpert")
    assert "`dvc pull models/base models/merged/unified`" in text
    assert 'PeftModel.from_pretrained(model, "models/merged/unified")' in text
    assert "PeftModel" not in card(collect(written.root, written.params), "base")
    for part in ("Intended use", "How to load it", "Data", "Results", "Limits", "Licence"):
        assert f"## {part}" in text


def test_a_card_without_scores_or_lock_says_so(empty):
    text = card(collect(empty.root, empty.params), "base")
    assert "Scores of the judge: not in this run" in text and "md5 not in this run" in text
    assert "model-index" not in front(text) and front(text)["library_name"] == "transformers"


def test_a_damaged_lock_is_named(tmp_path):
    (tmp_path / "dvc.lock").write_text("stages: [", encoding="utf-8")
    with pytest.raises(UserError, match=r"dvc\.lock: not YAML"):
        locked(tmp_path)


def test_a_card_is_written_for_every_arm(written):
    names = {path.stem for path in (written.root / "reports/cards").glob("*.md")}
    assert names == set(written.params.predict.arms)


def test_the_chain_of_a_model_can_be_run_in_order():
    params = load(REPOSITORY / "params.yaml")
    done: set[str] = set()
    for step in chain(params, "models/merged/unified"):
        assert set(step.inputs) <= done
        done.add(step.key)
    assert {"grpo@mmedexpert", "merge@experts", "adapt@pediatrics"} <= done and "grpo@rarl" not in done
    assert "adapt@adult_medicine_twin" not in done


def test_where_reinforcement_stands_in_each_arm():
    params = load(REPOSITORY / "params.yaml")
    found = {arm: reinforced(params, arm) for arm in params.predict.arms}
    assert found["medvlthinker"] == found["rarl"] == "base"
    assert found["mmedexpert_policy"] == found["mmedexpert"] == "adapted"
    assert not found["base"] and not found["sft"] and not found["experts"]


def test_the_drawn_graph_leaves_out_only_what_follows():
    params = load(REPOSITORY / "params.yaml")
    nodes, edges = drawn(params)
    below = {key: {start for start, end in edges if end == key} for key in nodes}

    def reach(key: str) -> set[str]:
        return below[key].union(*(reach(each) for each in below[key])) if below[key] else set()

    full = steps(params)
    for key in nodes:
        if key not in ("predict", "judge", "publish"):
            assert reach(key) == ancestors(full, key)
    assert reach("publish") == set(nodes) - {"publish"}
