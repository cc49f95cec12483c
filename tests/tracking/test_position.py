import shutil
import subprocess
import sys
from pathlib import Path

from grandrounds.tracking.position import expand, order, position

REPOSITORY = Path(__file__).parents[2]


def test_same_stages_as_dvc(tmp_path: Path) -> None:
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(REPOSITORY / name, tmp_path / name)
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "-q"], cwd=tmp_path, check=True)
    listed = subprocess.check_output(
        [sys.executable, "-m", "dvc", "stage", "list", "--name-only"], cwd=tmp_path, text=True
    )
    assert sorted(order(tmp_path)) == sorted(listed.split())


def test_order_puts_a_stage_behind_what_it_reads(tmp_path: Path) -> None:
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(REPOSITORY / name, tmp_path / name)
    names = order(tmp_path)
    for first, second in (
        ("grpo@mmedexpert", "merge@unified"),
        ("merge@experts", "grpo@mmedexpert"),
        ("base", "adapt@generalist"),
    ):
        assert names.index(first) < names.index(second)
    assert position("curate", None, tmp_path) == (1, len(names))
    assert position("adapt", "nobody", tmp_path) is None
    assert expand(tmp_path)["grpo@rarl"]["cmd"] == "python -m tasks.grpo rarl"


def test_no_pipeline_file_is_no_error(tmp_path: Path) -> None:
    assert position("curate", None, tmp_path) is None
