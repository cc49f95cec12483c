"""A recipe on demand, as a DVC experiment: `dvc exp run --temp` works in a copy of the committed project.

params.yaml, data, models and reports of the folder stay as they are. `dvc exp show` lists the experiment beside the
rest, and `dvc exp apply NAME` takes it over.
"""

import re
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed, Failed

from flows import artifacts, resources
from flows import plan as planning
from flows.choices import Experiment, Recipe, Stages
from flows.processes import Groups, available_cores, cause, interruptible, log_path, stage_environment
from grandrounds import recipes
from grandrounds.errors import UserError
from grandrounds.params import Params, load
from grandrounds.params import root as project_root
from grandrounds.tracking import experiments

# what `dvc repro` prints of each stage
STARTED = re.compile(
    r"^(?:Running stage '(?P<ran>[^']+)'|Stage '(?P<kept>[^']+)' (?P<how>didn't change|is cached))", re.M
)


@flow(name="grandrounds-recipe", validate_parameters=True, persist_result=False)
def run_recipe(
    recipe: Recipe, experiment: Experiment = "", stages: Stages = (), force: bool = False
) -> State[Any]:  # fmt: skip
    """Run a recipe as a DVC experiment, in a copy of the committed project.

    Args:
        recipe: Whole settings of recipes/. params.yaml itself is left as it is.
        experiment: Its name in `dvc exp show`: letters, digits, - and _. None: the recipe's name and the time.
        stages: Each with all that it needs. None: the whole pipeline.
        force: Run the stages even when they were run with these settings before.
    """
    root = project_root()
    name = experiment or f"{recipe}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    settings = list(experiments.settings(recipes.read(recipes.PARAMS), recipes.overrides(recipe)))
    planning.select(planning.read(root), stages)  # an unknown stage is refused here
    if experiments.find(name):
        raise UserError(f"experiment '{name}' is there already: take another name, or `dvc exp remove {name}`")
    command = experiments.command(name, stages, settings, force=force)
    tags = set[str]().union(*(resources.tags(stage, load(recipes.find(recipe))) for stage in _sections(stages)))
    state = run_experiment.with_options(tags=tags)(name, command, root, return_state=True)
    if state.is_cancelled():
        return Cancelled(message=state.message)
    if not state.is_completed():
        return Failed(message=state.message)
    _publish(name, recipe, root)
    return Completed(
        message=f"experiment {name}: {state.message}; `dvc exp show` lists it, `dvc exp apply {name}` takes it"
    )


def _sections(stages: Stages) -> tuple[str, ...]:
    return tuple(stages) or tuple(Params.model_fields)


@task(cache_policy=NO_CACHE, retries=0, persist_result=False, task_run_name="{name}")
def run_experiment(name: str, command: list[str], root: Path) -> State[Any]:
    """`dvc exp run` as a process group of its own, its stages counted from what it prints."""
    from concurrent.futures import ThreadPoolExecutor

    log, groups, started = log_path(root, f"recipe/{name}"), Groups(), time.monotonic()
    get_run_logger().info("dvc exp run --temp --name %s, log in %s", name, log)
    bar = artifacts.Bar(len(planning.read(root)), f"experiment {name}")
    seen = 0
    with ThreadPoolExecutor(1) as pool, interruptible(groups):
        run = pool.submit(groups.run, command, log, cwd=root, env=stage_environment(available_cores()))
        while not run.done():
            time.sleep(1)
            if (found := stages_in(log)) and len(found) > seen:
                seen = len(found)
                bar.show(seen - 1, f"{found[-1][0]}: {found[-1][1]}")
    seconds = time.monotonic() - started
    if groups.stopping:
        return Cancelled(message=f"{name} was stopped after {seconds:.1f} s")
    if run.result():
        return Failed(message=f"experiment {name} failed: {cause(log)}; log: {log}")
    hows = [how for _, how in stages_in(log)]
    return Completed(
        message=", ".join(f"{hows.count(how)} {how}" for how in ("ran", "restored", "unchanged") if how in hows)
    )


def stages_in(log: Path) -> list[tuple[str, str]]:
    """(stage, what happens to it), in the order of the log: "ran", "restored" or "unchanged"."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    return [
        (found["ran"], "ran")
        if found["ran"]
        else (found["kept"], "restored" if found["how"] == "is cached" else "unchanged")
        for found in STARTED.finditer(text)
    ]


def _publish(name: str, recipe: str, root: Path) -> None:
    """The experiment's table of stages and, where it wrote one, its report."""
    revision = experiments.find(name)
    if revision is None:
        raise UserError(f"experiment {name}: DVC kept none; see {log_path(root, f'recipe/{name}')}")
    rows = [f"| {stage} | {how} |" for stage, how in stages_in(log_path(root, f"recipe/{name}"))]
    head = [f"Recipe `{recipe}` as experiment `{name}` ({revision[:7]}).", "", "| stage | what happened |", "|---|---|"]
    artifacts.note("experiment", "\n".join([*head, *rows]), f"recipe {recipe}, experiment {name}")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, artifacts.REPORT.name)
        try:
            experiments.fetch(revision, str(artifacts.REPORT), copy)
        except UserError:  # a recipe's data stages alone write no report
            return
        artifacts.publish_report(copy, f"experiment {name}: {artifacts.REPORT}")
