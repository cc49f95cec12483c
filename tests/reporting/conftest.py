from pathlib import Path
from typing import NamedTuple

import pytest
from fixture import build, lineage

from grandrounds.params import Params
from grandrounds.reporting.report import write_report

REPOSITORY = Path(__file__).parents[2]


class Written(NamedTuple):
    root: Path
    params: Params
    html: str
    md: str


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """One whole project folder and its report; tests read it and change nothing."""
    root = tmp_path_factory.mktemp("project")
    params = build(root, REPOSITORY, questions=120)
    write_report(root, params, lineage())
    reports = root / "reports"
    return Written(
        root, params, (reports / "report.html").read_text("utf-8"), (reports / "report.md").read_text("utf-8")
    )


@pytest.fixture
def empty(tmp_path: Path) -> Written:
    """A project in which no stage has run."""
    from grandrounds.params import load

    params = load(REPOSITORY / "params.yaml")
    write_report(tmp_path, params, None)
    reports = tmp_path / "reports"
    return Written(
        tmp_path, params, (reports / "report.html").read_text("utf-8"), (reports / "report.md").read_text("utf-8")
    )
