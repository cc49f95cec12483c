"""The command line: fast help, one red line for what a user can mend, exit codes."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import layouts
import pytest
from typer.testing import CliRunner

from grandrounds import cli
from grandrounds.commands import lineage
from grandrounds.doctor import examine
from grandrounds.doctor.machine import pinned

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("torch", "transformers", "mlflow", "prefect", "dvc", "pandas", "matplotlib", "pyarrow.parquet")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small DVC project with the real params; typer's runner stays in this process."""
    monkeypatch.chdir(tmp_path)
    for folder in ("recipes", "below"):
        (tmp_path / folder).mkdir()
    recipe = (ROOT / "recipes" / "embedded.yaml").read_text(encoding="utf-8")
    (tmp_path / "recipes" / "embedded.yaml").write_text(recipe)
    (tmp_path / "params.yaml").write_text(recipe)
    (tmp_path / "dvc.yaml").write_text("stages:\n  one:\n    cmd: 'true'\n    params: [seed]\n")
    return tmp_path


def typed(*words: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    """The console script in a process of its own."""
    program = f"import sys; sys.argv[0] = 'grandrounds'; sys.path.insert(0, {str(ROOT)!r}); import grandrounds.cli as c"
    command = [sys.executable, "-c", f"{program}; c.main()", *words]
    env = {**os.environ, "COLUMNS": "120", "NO_COLOR": "1"}
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=120, check=False)


def test_help_is_quick_because_nothing_heavy_is_imported() -> None:
    program = f"import sys, grandrounds.cli; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_names_every_command() -> None:
    shown = CliRunner().invoke(cli.app, ["--help"]).output
    assert all(f" {name} " in shown for name in ("plan", "run", "lineage", "recipe", "doctor", "ui", "serve"))
    assert "never for clinical use" in shown


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["plan", "onne"], "error: unknown stage 'onne': did you mean 'one'? valid are one"),
        (["recipe", "use", "embeded"], "error: unknown recipe 'embeded': did you mean 'embedded'? valid are embedded"),
        (["lineage", "champion"], "error: 'champion': expected MODEL@ALIAS, such as grandrounds@champion"),
    ],
    ids=["stage", "recipe", "lineage"],
)
def test_a_mistake_is_one_line_on_stderr(project: Path, words: list[str], line: str) -> None:
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "-q"], cwd=project, check=True)
    done = typed(*words, cwd=project / "below")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", line + "\n")


def test_a_wrong_parameter_stops_run_before_prefect(project: Path) -> None:
    (project / "params.yaml").write_text((project / "params.yaml").read_text().replace("seed: 7", "seed: -7"))
    done = typed("run", cwd=project)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "seed" in done.stderr and "-7" in done.stderr and not (project / ".prefect").exists()


def test_plan_shows_why_and_run_of_nothing_starts_nothing(project: Path) -> None:
    dvc = lambda *words: subprocess.run([sys.executable, "-m", "dvc", *words], check=True, capture_output=True)  # noqa: E731
    dvc("init", "--no-scm", "-q")
    assert "never run" in CliRunner().invoke(cli.app, ["plan"]).output
    dvc("repro", "-q")
    assert "0 of 1 stages would run" in CliRunner().invoke(cli.app, ["plan"]).output
    assert "nothing to run" in CliRunner().invoke(cli.app, ["run"]).output
    assert not (project / ".prefect").exists()


def test_data_check_tells_what_a_source_gives(project: Path) -> None:
    layouts.slake(project / "slake")
    words = ["data", "check", "--type", "slake", "--path", "slake"]
    done = typed(*words, cwd=project)
    assert done.returncode == 1 and "curate would stop here" in done.stderr
    assert "left out    1 (is not in English)" in done.stdout and "Which organ is abnormal?" in done.stdout
    assert "train.json:3" in done.stdout and "there is no file 'xmlab2/source.jpg'" in done.stdout
    assert not list(project.rglob("*.png"))
    done = typed(*words, "--limit", "1", "--show", "0", cwd=project)
    assert done.returncode == 0 and "rows          1" in done.stdout and "Which organ" not in done.stdout
    for wrong, line in (
        (["slkae"], "unknown source 'slkae'"),
        (["embedded"], "made, not read"),
        (["--type", "slak", "--path", "slake"], "did you mean 'slake'"),
        ([], "needs the name of a source"),
    ):
        done = typed("data", "check", *wrong, cwd=project)
        assert done.returncode == 1 and line in done.stderr and done.stderr.count("\n") == 1


def test_recipe_commands(project: Path) -> None:
    runner = CliRunner()
    assert "* embedded" in " ".join(runner.invoke(cli.app, ["recipe", "list"]).output.split())
    assert runner.invoke(cli.app, ["recipe", "show", "embedded"]).output == (project / "params.yaml").read_text()
    assert "says the same" in runner.invoke(cli.app, ["recipe", "diff", "embedded"]).output
    (project / "params.yaml").write_text((project / "params.yaml").read_text().replace("seed: 7", "seed: 8"))
    assert "seed" in runner.invoke(cli.app, ["recipe", "diff", "embedded"]).output
    assert "params.yaml.bak" in runner.invoke(cli.app, ["recipe", "use", "embedded"]).output


def test_doctor_gives_a_mend_for_what_is_wrong(project: Path) -> None:
    (project / "params.yaml").write_text("sead: 7\n")
    (project / "constraints.txt").write_text("# pins\npytest==0.0.1\n")
    found = {each.what: each for each in examine(project)}
    assert {name for name, each in found.items() if each.state == "bad"} == {"params.yaml", "DVC"}
    assert "tested: 0.0.1" in found["packages"].found
    assert all(each.mend for each in found.values() if each.state != "ok")
    assert CliRunner().invoke(cli.app, ["doctor"]).exit_code == 1


def test_pins_are_read_without_comments_and_markers() -> None:
    assert pinned("# x\na==1 # why\nb==2 ; python_version < '3.12'\n\nc>=3\n") == {"a": "1", "b": "2"}


def test_lineage_as_json_names_each_run_once() -> None:
    @dataclasses.dataclass(frozen=True)
    class Node:
        name: str
        run_id: str
        inputs: tuple = ()

    edge = lambda path, node: SimpleNamespace(path=path, md5=f"md5 of {path}", node=node)  # noqa: E731
    source = edge("tasks/curate.py", None)
    curate = Node("curate", "r1", (source,))
    base = Node("base", "r2", (edge("data/train", curate),))
    found = SimpleNamespace(model="m", version="3", alias="champion", arm="base", root=edge("models/base", base))
    found.nodes, found.sources = lambda: [base, curate], lambda: [source]
    found.source_files = lambda: {"data/sources/x.csv": "md5 of x"}
    plain = json.loads(json.dumps(lineage.lineage_json(found)))  # type: ignore[arg-type]
    assert plain["root"] == {"path": "models/base", "md5": "md5 of models/base", "run_id": "r2"}
    assert [(run["name"], run["inputs"][0]["run_id"]) for run in plain["runs"]] == [("base", "r1"), ("curate", None)]
    assert plain["sources"] == [{"path": "tasks/curate.py", "md5": "md5 of tasks/curate.py", "run_id": None}]
