"""Experiments of a real, small DVC project: named, found, read, and the workspace left alone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from grandrounds.errors import UserError
from grandrounds.tracking import experiments


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [each for each in os.environ if each.startswith("DVC_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    (tmp_path / "gitconfig").write_text("[user]\nname = test\nemail = test@localhost\n")
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "params.yaml").write_text("size: 3\n")
    (folder / "dvc.yaml").write_text(
        'stages:\n  make:\n    cmd: python -c "import yaml; '
        "open('out', 'w').write('x' * yaml.safe_load(open('params.yaml'))['size'])\"\n"
        "    params: [size]\n    outs: [out]\n"
    )
    run = [["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"], ["git", "add", "-A"]]
    for each in [*run, ["git", "commit", "-q", "-m", "a project"]]:
        subprocess.run(each, check=True, capture_output=True)
    return folder


def test_an_experiment_is_found_and_read_and_leaves_the_workspace_alone(project: Path, tmp_path: Path) -> None:
    assert experiments.find("four") is None
    subprocess.run(experiments.command("four", ["make"], ["++size=4"]), check=True, capture_output=True)
    revision = experiments.find("four")
    assert revision
    experiments.fetch(revision, "out", tmp_path / "copy")
    assert (tmp_path / "copy").read_text() == "xxxx"
    assert (project / "params.yaml").read_text() == "size: 3\n" and not (project / "out").exists()
    with pytest.raises(UserError, match=r"other of experiment .*dvc exp remove"):
        experiments.fetch(revision, "other", tmp_path / "copy")
    experiments.remove("four")
    assert experiments.find("four") is None


def test_an_experiment_belongs_to_its_commit(project: Path) -> None:
    subprocess.run(experiments.command("five", ["make"], ["++size=5"]), check=True, capture_output=True)
    assert experiments.find("five")
    subprocess.run(["git", "commit", "-q", "--allow-empty", "-m", "another"], check=True)
    assert experiments.find("five") is None


def test_a_letter_outside_ascii_in_the_path_is_said_before_dvc_fails_on_it(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = project.rename(project.with_name("größe"))
    monkeypatch.chdir(there)
    with pytest.raises(UserError, match=r"größe: DVC's experiments do not run in a folder whose path has letters"):
        experiments.find("four")
    # once this no longer fails, the check above is to go
    assert subprocess.run(experiments.command("four", ["make"], []), capture_output=True).returncode


def test_no_git_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(UserError, match="git init"):
        experiments.find("any")
