"""The Prefect flow: one task run for each DVC stage, as many at once as dvc.yaml and `workers` allow.

It owns no graph and no command: both come from dvc.yaml, and each stage is run by `dvc repro -s`, so that the flow and
a `dvc repro` typed by hand cannot drift. DVC is the cache too, hence NO_CACHE. A stage that the plan calls unchanged is
not started at all; one whose upstream ran is, and DVC then says whether anything reached it.

One run at a time works in a folder. Ctrl-C, SIGTERM or a cancellation in the UI ends the process group of every
running stage; what had finished stays finished, and DVC's lock is free.
"""

import queue
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from prefect import Task, flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.exceptions import FailedRun
from prefect.runtime import flow_run
from prefect.states import Cancelled, Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner

from flows import artifacts, resources
from flows import plan as planning
from flows.choices import Stages, Workers
from flows.plan import Planned
from flows.processes import (
    Groups,
    available_cores,
    cause,
    dvc_command,
    interruptible,
    log_path,
    outcome,
    stage_environment,
)
from flows.progress import Progress, report
from flows.schedule import FINE, Schedule
from flows.turn import turn
from grandrounds.params import Params, load
from grandrounds.params import root as project_root

THREADS: Any = ThreadPoolTaskRunner()  # a thread for each stage; its work is in another process
NAMES = {"ran": "Completed", "restored": "Restored", "unchanged": "Unchanged"}


@dataclass
class Session:
    """What the tasks of one flow run share. They are threads of one process, and each writes its own key only."""

    root: Path
    force: bool
    params: Params
    groups: Groups = field(default_factory=Groups)
    outcomes: dict[str, tuple[str, float]] = field(default_factory=dict)


def _nobody_answered(_: Task[..., Any], __: TaskRun, state: State[Any]) -> bool:
    return resources.NOBODY in (state.message or "")


@task(cache_policy=NO_CACHE, retries=0, persist_result=False, task_run_name="{stage}")
def run_stage(stage: str, threads: int, session: Session) -> State[Any]:
    """Reproduce one stage; the state's name tells ran, restored and unchanged apart in the UI."""
    log = log_path(session.root, stage)
    logger = get_run_logger()
    logger.info("dvc repro -s %s, log in %s", stage, log)
    started = time.monotonic()
    command = dvc_command(stage, force=session.force)
    code = session.groups.run(command, log, cwd=session.root, env=stage_environment(threads))
    how, seconds = outcome(code, stage, log), time.monotonic() - started
    if session.groups.stopping:
        session.outcomes[stage] = ("stopped", seconds)
        return Cancelled(message=f"{stage} was stopped after {seconds:.1f} s")
    session.outcomes[stage] = (how, seconds)
    logger.info("%s %s in %.1f s", stage, how, seconds)
    if how == "failed":
        return Failed(message=f"{stage} failed with exit code {code}: {cause(log)}; log: {log}")
    return Completed(name=NAMES[how], message=f"{stage} {how} in {seconds:.1f} s")


def _task(stage: str, params: Params) -> Task[..., State[Any]]:
    """The task of a stage: with its tags and, if it asks an API, retries."""
    tags = resources.tags(stage, params)
    if resources.API not in tags:
        return run_stage.with_options(name=stage.split("@")[0], tags=tags)
    delays = resources.RETRY_DELAYS
    return run_stage.with_options(
        name=stage.split("@")[0],
        tags=tags,
        retries=len(delays),
        retry_delay_seconds=delays,
        retry_condition_fn=_nobody_answered,
    )


@flow(name="grandrounds", task_runner=THREADS, validate_parameters=True, persist_result=False)
def pipeline(stages: Stages = (), force: bool = False, workers: Workers = 2) -> State[Any]:
    """Reproduce the pipeline, or some of its stages.

    Args:
        stages: Each with all that it needs; "adapt" stands for all its items. None: the whole pipeline.
        force: Run the stages even when nothing changed.
        workers: Stages at once; the cores are shared out among them.
    """
    root = project_root()
    with turn(root, f"run {flow_run.name}", _say):
        plan = planning.make(stages, force=force, root=root)
        session = Session(root, force, load(root / "params.yaml"))
        _execute(plan, session, workers)
        said = _summary(session.outcomes)
        artifacts.stage_table(plan, session.outcomes, root, said)
        artifacts.report(session.outcomes, root)
    report(plan, session.outcomes, root)
    failed = [name for name, (how, _) in session.outcomes.items() if how == "failed"]
    if failed:
        logs = ", ".join(str(log_path(root, name).relative_to(root)) for name in failed)
        return Failed(message=f"{', '.join(failed)} failed; see {logs}")
    get_run_logger().info(said)
    return Completed(message=said, name="Unchanged" if _untouched(session.outcomes) else "Completed")


def _say(line: str) -> None:
    get_run_logger().warning(line)
    print(line, flush=True)


def _execute(plan: Sequence[Planned], session: Session, workers: int) -> None:
    """The ready queue: start what can start, wait for any to end, until nothing is left that can run."""
    schedule = Schedule(plan)
    ended: queue.Queue[str] = queue.Queue()
    cores = available_cores()
    bar = artifacts.Bar(schedule.total, f"{schedule.total} of {len(plan)} stages to run")
    with interruptible(session.groups), Progress(session.root, schedule.total) as progress:
        while True:
            for name in schedule.ready()[: workers - len(schedule.running)]:
                threads = schedule.threads(name, workers, cores)
                schedule.start(name)
                progress.start(name, threads, schedule.seconds[name])
                future = _task(name, session.params).submit(name, threads, session)
                future.add_done_callback(partial(_tell, ended, name))
            if not schedule.running:
                break
            try:
                name = ended.get(timeout=1.0)
            except queue.Empty:
                progress.tick(schedule.seconds_left(progress.elapsed()) / workers)
                continue
            how, _ = session.outcomes.setdefault(name, ("failed", 0.0))  # not there: the task broke, not its stage
            schedule.finish(name, how)
            progress.end(name, how)
            bar.show(
                len(session.outcomes), f"{name} {how}; {len(session.outcomes)} of {schedule.total} stages are done"
            )
    if not schedule.total:
        bar.show(0, f"nothing changed in {len(plan)} stages")
    for each in plan:
        session.outcomes.setdefault(each.name, ("unchanged", 0.0))
    for name, causes in schedule.blocked().items():
        session.outcomes[name] = (f"not run: needs {', '.join(causes)}", 0.0)


def _untouched(outcomes: Mapping[str, tuple[str, float]]) -> bool:
    return all(how == "unchanged" for how, _ in outcomes.values())


def _summary(outcomes: Mapping[str, tuple[str, float]]) -> str:
    hows = [how.split(":")[0] for how, _ in outcomes.values()]
    if _untouched(outcomes):
        return f"nothing changed: {len(hows)} stages are as dvc.lock says, none was run"
    return ", ".join(f"{hows.count(how)} {how}" for how in (*FINE, "failed", "stopped", "not run") if how in hows)


def _tell(ended: "queue.Queue[str]", name: str, _: object) -> None:
    ended.put(name)


def run(stages: Sequence[str] = (), *, force: bool = False, workers: int = 2) -> bool:
    """Run the flow from the command line; whether every stage is done. Call flows.settings.prepare first."""
    state = pipeline(stages=tuple(stages), force=force, workers=workers, return_state=True)
    problem = None if state.is_completed() else state.result(raise_on_failure=False)
    if isinstance(problem, Exception) and not isinstance(problem, FailedRun):  # FailedRun: a stage, reported already
        raise problem
    return state.is_completed()
