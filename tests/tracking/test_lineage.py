import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from grandrounds.errors import UserError
from grandrounds.tracking import lineage, registry
from grandrounds.tracking.lineage import Lineage

VAL = {"base": 0.4, "sft": 0.5, "experts": 0.9}


def _text(tree: Lineage) -> str:
    out = io.StringIO()
    Console(file=out, width=300).print(lineage.render(tree))
    return out.getvalue()


def test_champion_down_to_the_sources(project: Any) -> None:
    project.pipeline()
    registry.publish(project.params, project.scores(**VAL), {})
    tree = lineage.walk("grandrounds", "champion")
    assert tree.arm == "experts" and tree.root.md5 == project.md5("models/merged/experts")
    names = [node.name for node in tree.nodes()]
    assert names == ["merge@experts", "adapt@pediatrics", "curate", "base", "adapt@generalist"]
    assert [(edge.path, edge.md5) for edge in tree.sources()] == [("grandrounds/sources", "2" * 32 + ".dir")]
    text = _text(tree)
    for path in ("models/merged/experts", "models/base", "data/curated/train.parquet"):
        assert f"{path}  {project.md5(path)}" in text
    assert text.count("base  commit c0ffee") == 1 and "base: shown above" in text
    assert "training.steps" not in text and f"steps {project.params.adapt.training.steps}" in text  # short names

    plain = lineage.as_dict(tree)
    assert (plain["alias"], plain["stage"], len(plain["inputs"])) == ("champion", "merge@experts", 2)
    second = plain["inputs"][1]["inputs"][1]
    assert (second["name"], second["note"]) == ("models/base", "its stage is shown above")

    offline = lineage.champion_lineage_from_files("experts")
    assert offline.root.node == tree.root.node


def test_old_version_keeps_its_own_ancestors(project: Any) -> None:
    """A path is not enough: after a retraining, models/base is other bytes under the same name."""
    project.pipeline("first base")
    old = project.md5("models/base")
    registry.publish(project.params, project.scores(**VAL), {})
    project.pipeline("second base")
    registry.publish(project.params, project.scores(**VAL), {})
    champion, current = lineage.walk("grandrounds", "champion"), lineage.walk("grandrounds", "experts")
    assert (champion.version, current.version) == ("3", "6")
    assert old in _text(champion) and old not in _text(current)
    assert len(champion.nodes()) == len(current.nodes()) == 5
    assert {node.run_id for node in champion.nodes()}.isdisjoint(node.run_id for node in current.nodes())
    assert lineage.walk("grandrounds", "3").root == champion.root


def test_unknown_names(project: Any) -> None:
    database = project.root / ".mlflow/mlflow.db"
    database.rename("away.db")
    with pytest.raises(UserError, match="no MLflow database yet"):
        lineage.walk("grandrounds", "champion")
    Path("away.db").rename(database)
    project.pipeline()
    registry.publish(project.params, project.scores(**VAL), {})
    with pytest.raises(UserError, match="unknown registered model 'grandround': did you mean 'grandrounds'"):
        lineage.walk("grandround", "champion")
    with pytest.raises(UserError, match="unknown alias 'champoin': did you mean 'champion'"):
        lineage.walk("grandrounds", "champoin")
    with pytest.raises(UserError, match="unknown alias '99'"):
        lineage.walk("grandrounds", "99")
    with pytest.raises(UserError, match="unknown arm 'expert': did you mean 'experts'"):
        lineage.champion_lineage_from_files("expert")
