"""Recipes: whole files, checked, and never a params.yaml lost."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from grandrounds import recipes
from grandrounds.errors import UserError
from grandrounds.params import check
from grandrounds.tracking import experiments

ROOT = Path(__file__).resolve().parent.parent
EMBEDDED = (ROOT / "recipes" / "embedded.yaml").read_text(encoding="utf-8")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two recipes, and params.yaml as the first of them."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "embedded.yaml").write_text(EMBEDDED)
    (tmp_path / "recipes" / "other.yaml").write_text("# Another seed\n" + EMBEDDED.replace("seed: 7", "seed: 8"))
    (tmp_path / "params.yaml").write_text(EMBEDDED)
    return tmp_path


def test_the_default_is_the_recipe_embedded() -> None:
    assert (ROOT / "params.yaml").read_text(encoding="utf-8") == EMBEDDED


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_is_valid_and_says_what_it_is(path: Path) -> None:
    check(recipes.read(path), str(path))
    assert path.read_text(encoding="utf-8").startswith("# ")


def test_the_list_marks_the_current_one_and_tells_problems(project: Path) -> None:
    (project / "recipes" / "bad.yaml").write_text(EMBEDDED.replace("seed: 7", "sead: 7"))
    rows = {each.name: each for each in recipes.listing()}
    assert [name for name, each in rows.items() if each.current] == ["embedded"]
    assert rows["other"].about == "Another seed" and "did you mean 'seed'" in rows["bad"].problem


def test_use_replaces_and_keeps_only_what_someone_edited(project: Path) -> None:
    assert recipes.use("other") is None and not (project / "params.yaml.bak").exists()
    edited = EMBEDDED.replace("seed: 7", "seed: 99")
    (project / "params.yaml").write_text(edited)
    assert recipes.use("embedded") == Path("params.yaml.bak")
    assert (project / "params.yaml").read_text() == EMBEDDED
    assert (project / "params.yaml.bak").read_text() == edited


def test_a_bad_recipe_leaves_params_alone(project: Path) -> None:
    (project / "recipes" / "bad.yaml").write_text(EMBEDDED.replace("seed: 7", "sead: 7"))
    with pytest.raises(UserError, match=r"recipes/bad\.yaml: .*did you mean 'seed'"):
        recipes.use("bad")
    with pytest.raises(UserError, match=r"unknown recipe 'embeded': did you mean 'embedded'"):
        recipes.use("embeded")
    assert sorted(path.name for path in project.iterdir()) == ["params.yaml", "recipes"]


def test_difference_is_by_value(project: Path) -> None:
    first, second = recipes.find("embedded"), recipes.find("other")
    assert recipes.difference(first, second) == [("seed", "7", "8")]
    (project / "less.yaml").write_text(EMBEDDED.replace("  threads: 0 # 0: all cores\n", ""))
    assert recipes.difference(first, project / "less.yaml") == [("compute.threads", "0", recipes.ABSENT)]
    assert recipes.difference(first, first) == []


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_recipe_says_every_key_that_a_stage_depends_on(path: Path) -> None:
    """DVC refuses a stage whose key is not in params.yaml, though the models have a default for it."""
    given = yaml.safe_load(path.read_text(encoding="utf-8"))
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    for name, stage in stages.items():
        for key in stage.get("do", stage).get("params", []):
            value = given
            for part in key.split("."):
                if "$" in part:  # an item's name
                    break
                assert part in value, f"{path.name}: {name} depends on '{key}'"
                value = value[part]


@pytest.mark.parametrize("name", [path.stem for path in sorted((ROOT / "recipes").glob("*.yaml"))])
def test_dvc_makes_params_a_recipe_by_its_overrides(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dvc.utils.hydra import apply_overrides

    monkeypatch.chdir(ROOT)
    path = tmp_path / "params.yaml"
    path.write_text(EMBEDDED)
    apply_overrides(path, list(experiments.settings(yaml.safe_load(EMBEDDED), recipes.overrides(name))))
    assert check(recipes.read(path)) == check(recipes.read(recipes.find(name)))


@given(text=st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")) | st.just("\n"), max_size=40))
def test_dvc_reads_any_text_as_it_is(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    from dvc.utils.hydra import apply_overrides

    path = tmp_path_factory.mktemp("text") / "params.yaml"
    path.write_text("a: 1\n")
    apply_overrides(path, list(experiments.settings({"a": 1}, {"a": text})))
    assert yaml.safe_load(path.read_text()) == {"a": text}
