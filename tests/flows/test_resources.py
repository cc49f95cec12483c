"""Tags by what params.yaml says, the retry's one cause, and the turn that runs take in a folder."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from flows import resources, turn
from flows.choices import stage_names
from grandrounds.engines.routing import Lanes
from grandrounds.params import Params, check

ROOT = Path(__file__).resolve().parent.parent.parent
REMOTE = {"type": "openai", "endpoints": ["http://127.0.0.1:9/v1"]}


def params(**sections: dict) -> Params:
    raw = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for name, changes in sections.items():
        raw[name] |= changes
    return check(raw)


@pytest.mark.parametrize(
    ("stage", "changes"),
    [
        ("curate", {"curate": {"labeller": {"engine": REMOTE}}}),
        ("filter@text", {"filter": {"engine": REMOTE}}),
        ("distill", {"distill": {"teacher": REMOTE}}),
        ("judge", {"judge": {"judges": {"reference": {"type": "reference"}, "other": {"type": "gemini"}}}}),
    ],
)
def test_only_what_asks_an_endpoint_is_bound_to_an_api(stage: str, changes: dict) -> None:
    plain, asking = params(compute={"device": "cuda"}), params(compute={"device": "cuda"}, **changes)
    assert resources.tags(stage, asking) == {resources.API}
    assert resources.API not in resources.tags(stage, plain)
    assert resources.tags("adapt@sft", asking) == {resources.GPU}, "another stage has changed too"


def test_on_the_cpu_no_stage_asks_for_a_gpu() -> None:
    assert not any(resources.tags(stage, params(compute={"device": "cpu"})) for stage in stage_names(ROOT))


def test_the_cause_that_is_retried_is_what_the_engine_says() -> None:
    assert resources.NOBODY in str(Lanes([], 1, "judge.endpoints").unreachable())


def test_choices_are_the_names_that_dvc_takes() -> None:
    from flows.plan import read

    known = {stage.name for stage in read(ROOT)}
    assert set(stage_names(ROOT)) == known | {name.split("@")[0] for name in known}


HOLD = """
import sys, time
from pathlib import Path
from flows.turn import turn
with turn(Path(sys.argv[1]), "run silver-fox", print):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_turn_is_waited_for_and_ends_with_its_process(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        said: list[str] = []

        def say(line: str) -> None:
            said.append(line)
            other.kill()  # nothing is told to give the folder back: the kernel does

        with turn.turn(tmp_path, "ours", say):
            [line] = said
        assert f"(run silver-fox, process {other.pid}, since " in line
        assert not (tmp_path / turn.HOLDER).exists()
