"""params.yaml: every mistake is one line that names the key, what was given and what is allowed."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from grandrounds.errors import UserError
from grandrounds.params import Params, check, load

ROOT = Path(__file__).resolve().parent.parent
RAW = yaml.safe_load((ROOT / "recipes" / "embedded.yaml").read_text(encoding="utf-8"))

# key to set, value, words that the one line must hold
WRONG: list[tuple[str, Any, list[str]]] = [
    ("seed", -1, ["seed", "greater than or equal to 0", "-1"]),
    ("seed", "seven", ["seed", "valid integer", "'seven'"]),
    ("bas", {}, ["unknown key 'bas'", "did you mean 'base'", "filter"]),
    ("curate.sources.embedded.trian", 3, ["curate.sources.embedded.trian", "did you mean 'train'", "image_share"]),
    ("curate.sources.embedded.image_share", 1.5, ["curate.sources.embedded.image_share", "less than or equal", "1.5"]),
    ("curate.sources.embedded.image_size", 100, ["image_size", "multiple of 28", "100"]),
    ("curate.sources", {}, ["curate.sources", "at least 1 item"]),
    ("curate.sources.slake", {"type": "slak", "role": "test"}, ["curate.sources.slake", "'slak'", "'slake'"]),
    ("curate.sources.slake", {"type": "slake", "role": "test"}, ["curate.sources.slake: needs either 'path' or"]),
    ("curate.sources.slake", {"type": "slake", "path": "a"}, ["curate.sources.slake.role: is required"]),
    (
        "curate.sources.mine",
        {"type": "dicom", "role": "test", "path": "a", "cleard": True},
        ["mine.cleard", "'cleared'"],
    ),
    ("curate.sources.slake", {"type": "slake", "role": "test", "repository": "a/b", "revision": "main"}, ["40"]),
    ("curate.sources.second", {"type": "embedded"}, ["curate.sources", "second", "only one"]),
    ("curate.sources", {"own": {"type": "table", "role": "train", "path": "a"}}, ["base.model", "embedded"]),
    ("base.model.type", "hubb", ["base.model", "hubb", "embedded"]),
    ("base.model.stepz", 3, ["base.model", "unknown key 'stepz'", "did you mean 'steps'"]),
    ("filter.n", "x", ["filter.n", "valid integer", "'x'"]),
    ("filter.keep.max", 99, ["filter.keep", "99", "min <= max <= n"]),
    ("filter.items.imag", {}, ["filter.items", "text", "image_text"]),
    ("adapt.training.lora.rr", 1, ["adapt.training.lora.rr", "did you mean 'r'", "alpha"]),
    (
        "adapt.items.pediatrics.specialties",
        ["pedatrics"],
        ["unknown specialty 'pedatrics'", "did you mean 'pediatrics'"],
    ),
    ("merge.items.experts.method.densty", 1, ["unknown key 'densty'", "did you mean 'density'"]),
    ("merge.items.experts.beside.of", "adult", ["merge.items.experts.beside.of", "unknown update 'adult'"]),
    ("grpo.items.rarl.init", "models/bse", ["grpo.items.rarl.init", "did you mean 'models/base'"]),
    ("grpo.items.rarl.lerning_rate", 1, ["grpo.items.rarl", "did you mean 'learning_rate'"]),
    ("grpo.items.rarl.modalities", ["images"], ["unknown modality 'images'", "image_text"]),
    ("grpo.items.mmedexpert.advantages.withn", 1, ["did you mean 'within'"]),
    ("grpo.items.mmedexpert.group", 6, ["grpo.items.mmedexpert.group", "6 rollouts", "multiple of 4"]),
    ("grpo.items.rarl.accumulation", 5, ["grpo.items.rarl.accumulation", "96 rollouts", "use 4 or 6 or 8"]),
    ("grpo.items.rarl.order", "easy_to_hard", ["grpo.items.rarl.order", "pass counts", "data/filtered/<modality>"]),
    ("grpo.items.rarl.advantages", {"type": "grpo", "scale": "none", "std_floor": 0.1}, ["std_floor", "'none'"]),
    ("grpo.items.rarl.rewards.length", {-1: 0.1}, ["grpo.items.rarl.rewards.length"]),
    ("predict.arms.sft.adapter", "models/adapters/genralist", ["predict.arms.sft", "models/adapters/generalist"]),
    ("predict.arms.sft.family", "supervised", ["predict.arms.sft.family", "'base'", "'supervised'"]),
    ("judge.baselines", ["sfft"], ["judge.baselines", "unknown arm 'sfft'", "did you mean 'sft'"]),
]


def changed(key: str, value: Any) -> Any:
    raw = copy.deepcopy(RAW)
    *above, last = key.split(".")
    node = raw
    for part in above:
        node = node[part]
    node[last] = value
    return raw


@pytest.mark.parametrize(("key", "value", "words"), WRONG, ids=[f"{key}={value}" for key, value, _ in WRONG])
def test_a_mistake_is_one_telling_line(key: str, value: Any, words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        check(changed(key, value))
    line = str(caught.value)
    assert "\n" not in line and line.startswith("params.yaml: ")
    assert not [word for word in words if word not in line], line


def test_a_missing_section_is_named() -> None:
    raw = copy.deepcopy(RAW)
    del raw["grpo"]
    with pytest.raises(UserError, match=r"grpo: is required"):
        check(raw)


@pytest.mark.parametrize("raw", [None, [], "seed: 7", 3])
def test_not_a_mapping(raw: Any) -> None:
    with pytest.raises(UserError, match="expected a mapping"):
        check(raw)


def test_the_default_is_valid_and_frozen() -> None:
    params = check(RAW)
    with pytest.raises(ValueError, match="frozen"):
        params.seed = 3  # type: ignore[misc]


def test_values_survive_a_round_trip() -> None:
    params = check(RAW)
    assert Params.model_validate(params.model_dump()) == params


def test_files_that_are_no_params(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"not found; run from the project folder"):
        load(tmp_path / "params.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("seed: [1,\n")
    with pytest.raises(UserError, match="not YAML") as caught:
        load(broken)
    assert "\n" not in str(caught.value)
    broken.write_bytes(b"seed: \xff\xfe")
    with pytest.raises(UserError, match="not YAML"):
        load(broken)
