"""The plan: pure parts by property and example, and once against DVC itself on a toy project."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows import plan
from flows.plan import Change, Stage
from grandrounds.errors import UserError

RECIPE = Path(__file__).resolve().parent.parent.parent / "recipes" / "embedded.yaml"


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, tuple[str, ...]]:
    """Acyclic graphs: each stage needs some of the stages before it."""
    count = draw(st.integers(1, 9))
    return {
        f"s{i}": tuple(sorted(draw(st.sets(st.sampled_from([f"s{j}" for j in range(i)]))) if i else ()))
        for i in range(count)
    }


def stage(name: str, upstream: tuple[str, ...] = (), *changes: Change, seconds: float = 1.0) -> Stage:
    return Stage(name, upstream, (f"out/{name}.txt",), changes, seconds)


@given(graphs())
def test_a_wave_is_one_more_than_its_highest_upstream(graph: dict[str, tuple[str, ...]]) -> None:
    waves = plan.waves(graph)
    assert all(waves[name] == 1 + max((waves[up] for up in ups), default=-1) for name, ups in graph.items())


@given(graphs(), st.data())
def test_a_stage_runs_exactly_when_it_or_an_ancestor_changed(graph: dict[str, tuple[str, ...]], data: st.DataObject):
    dirty = data.draw(st.sets(st.sampled_from(sorted(graph))))
    change = Change("params", "seed", "modified")
    planned = plan.decide(stage(name, ups, *([change] if name in dirty else [])) for name, ups in graph.items())
    assert [each.name for each in planned] == sorted(graph, key=lambda name: (plan.waves(graph)[name], name))
    for each in planned:
        assert (each.action == "run") == bool(({each.name} | plan.ancestors(graph, each.name)) & dirty)
        assert each.reason.startswith("params changed: seed") == (each.name in dirty)


@given(graphs())
def test_rank_is_the_longest_way_to_the_end(graph: dict[str, tuple[str, ...]]) -> None:
    seconds = {name: float(number + 1) for number, name in enumerate(graph)}
    ranks = plan.ranks(graph, seconds)
    for name, ups in graph.items():
        assert ranks[name] >= seconds[name]
        assert all(ranks[up] >= seconds[up] + ranks[name] for up in ups)
    assert max(ranks.values()) <= sum(seconds.values())


@given(graphs())
def test_alone_means_that_no_other_could_run_beside(graph: dict[str, tuple[str, ...]]) -> None:
    before = {name: plan.ancestors(graph, name) for name in graph}
    for name in graph:
        beside = [each for each in graph if each != name and each not in before[name] and name not in before[each]]
        assert (name in plan.alone(graph, list(graph))) == (not beside)


@pytest.mark.parametrize(
    ("status", "told"),
    [
        ([{"changed deps": {"params.yaml": {"grpo.items.rarl": "modified"}}}], "params changed: grpo.items.rarl"),
        ([{"changed deps": {"params.yaml": {"grpo": "new"}}}], "params new: grpo"),
        ([{"changed deps": {"data/a.parquet": "modified"}}], "dep changed: data/a.parquet"),
        ([{"changed deps": {"data/a.parquet": "deleted"}}], "dep missing: data/a.parquet"),
        ([{"changed outs": {"models/base": "deleted"}}], "output missing: models/base"),
        ([{"changed outs": {"models/base": "not in cache"}}], "output missing: models/base"),
        ([{"changed outs": {"models/base": "modified"}}], "output changed: models/base"),
        (["changed command"], "command changed"),
        (["always changed"], "always runs"),
        ([], ""),
        (
            [{"changed deps": {"a": "modified", "b": "modified"}}, {"changed outs": {"c": "deleted"}}],
            "dep changed: a; dep changed: b and 1 more",
        ),
    ],
)
def test_reasons(status: list, told: str) -> None:
    assert plan.reason(stage("s", (), *plan.changes(status)), []) == told


def test_a_dep_that_an_upstream_is_about_to_write_is_no_reason() -> None:
    changed = Change("dep", "data/predictions", "modified")
    assert plan.reason(stage("judge", (), changed), ["data/predictions/sft.parquet"]) == ""
    assert plan.reason(stage("judge", (), changed), ["data/predictions2"]) == "dep changed: data/predictions"


def test_targets_bring_what_they_need() -> None:
    stages = [stage("a"), stage("b@x", ("a",)), stage("b@y", ("a",)), stage("c", ("b@x",)), stage("d")]
    names = lambda *targets: {each.name for each in plan.select(stages, targets)}  # noqa: E731
    assert names("c") == {"a", "b@x", "c"}
    assert names("b") == {"a", "b@x", "b@y"}
    assert names() == {"a", "b@x", "b@y", "c", "d"}
    with pytest.raises(UserError, match=r"unknown stage 'b@z': did you mean 'b@"):
        names("b@z")


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("toy")
    (root / "params.yaml").write_text(RECIPE.read_text())
    (root / "tool.txt").write_text("1")
    (root / "dvc.yaml").write_text(
        "stages:\n"
        "  first: {cmd: cp tool.txt a.txt, deps: [tool.txt], params: [seed], outs: [a.txt]}\n"
        "  each:\n"
        "    foreach: ${filter.items}\n"
        "    do: {cmd: 'cp a.txt ${key}.txt', deps: [a.txt], outs: ['${key}.txt']}\n"
        "  last: {cmd: cat text.txt image_text.txt > z.txt, deps: [text.txt, image_text.txt], outs: [z.txt]}\n"
    )
    dvc(root, "init", "--no-scm", "-q")
    return root


def dvc(root: Path, *arguments: str) -> None:
    env = {"PATH": "/usr/bin:/bin", "HOME": str(root), "DVC_NO_ANALYTICS": "1"}
    subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=root, env=env, check=True, capture_output=True)


def test_against_dvc(toy: Path) -> None:
    before = plan.make(root=toy)
    assert [(each.wave, each.name) for each in before] == [
        (0, "first"),
        (1, "each@image_text"),
        (1, "each@text"),
        (2, "last"),
    ]
    assert {each.reason for each in before} == {plan.NEVER_RUN}
    dvc(toy, "repro", "-q")
    assert {each.action for each in plan.make(root=toy)} == {"hit"}
    assert {each.reason for each in plan.make(root=toy, force=True)} == {plan.FORCED}

    (toy / "text.txt").unlink()
    assert why(toy) == {"each@text": "output missing: text.txt", "last": "upstream runs: each@text"}

    (toy / "params.yaml").write_text(RECIPE.read_text().replace("seed: 7", "seed: 8"))
    assert why(toy)["first"] == "params changed: seed"
    assert why(toy)["last"] == "upstream runs: each@image_text, each@text"
    (toy / "params.yaml").write_text(RECIPE.read_text())
    (toy / "tool.txt").write_text("2")
    assert why(toy)["first"] == "dep changed: tool.txt"


def why(root: Path) -> dict[str, str]:
    return {each.name: each.reason for each in plan.make(root=root) if each.action == "run"}


def test_a_wrong_parameter_comes_before_anything_else(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(RECIPE.read_text().replace("seed: 7", "sead: 7"))
    with pytest.raises(UserError, match=r"did you mean 'seed'"):
        plan.make(root=tmp_path)


def test_a_broken_pipeline_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(RECIPE.read_text())
    (tmp_path / "dvc.yaml").write_text("stages:\n  a: {cmd: 'true', outs: ['${nowhere}']}\n")
    dvc(tmp_path, "init", "--no-scm", "-q")
    with pytest.raises(UserError, match="nowhere") as caught:
        plan.make(root=tmp_path)
    assert "\n" not in str(caught.value)
