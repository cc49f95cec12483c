"""The Prefect flow: one task run for each DVC stage, as many at once as dvc.yaml and `workers` allow.

It owns no graph and no command: both come from dvc.yaml, and each stage is run by `dvc repro -s`, so that the flow and
a `dvc repro` typed by hand cannot drift. DVC is the cache too, hence NO_CACHE. A stage that the plan calls unchanged is
not started at all; one whose upstream ran is, and DVC then says whether anything reached it.

Ctrl-C, or SIGTERM, ends the process group of every running stage. What had finished stays finished.
"""

import queue
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.exceptions import FailedRun
from prefect.states import Cancelled, Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner

from flows import plan as planning
from flows.plan import Planned
from flows.processes import HARD, Groups, available_cores, cause, dvc_command, log_path, outcome, stage_environment
from flows.progress import Progress, report
from flows.schedule import FINE, Schedule
from grandrounds.params import root as project_root

THREADS: Any = ThreadPoolTaskRunner()  # a thread for each stage; its work is in another process
NAMES = {"ran": "Completed", "restored": "Restored", "unchanged": "Unchanged"}


@dataclass
class Session:
    """What the tasks of one flow run share. They are threads of one process, and each writes its own key only."""

    root: Path
    force: bool
    groups: Groups = field(default_factory=Groups)
    outcomes: dict[str, tuple[str, float]] = field(default_factory=dict)


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


@flow(name="grandrounds", task_runner=THREADS, validate_parameters=True, persist_result=False)
def pipeline(stages: list[str] | None = None, force: bool = False, workers: int = 2) -> State[Any]:
    """Reproduce the pipeline, or `stages` and what they need; `force` runs them even when nothing changed."""
    if workers < 1:
        raise ValueError(f"workers: at least 1 is needed, but {workers} was given")
    root = project_root()
    plan = planning.make(stages or (), force=force, root=root)
    session = Session(root, force)
    _execute(plan, session, workers)
    report(plan, session.outcomes, root)
    failed = [name for name, (how, _) in session.outcomes.items() if how == "failed"]
    if failed:
        logs = ", ".join(str(log_path(root, name).relative_to(root)) for name in failed)
        return Failed(message=f"{', '.join(failed)} failed; see {logs}")
    return Completed(message=_counted(session.outcomes))


def _execute(plan: Sequence[Planned], session: Session, workers: int) -> None:
    """The ready queue: start what can start, wait for any to end, until nothing is left that can run."""
    schedule = Schedule(plan)
    ended: queue.Queue[str] = queue.Queue()
    cores = available_cores()
    with _interruptible(session.groups), Progress(session.root, schedule.total) as progress:
        while True:
            for name in schedule.ready()[: workers - len(schedule.running)]:
                threads = schedule.threads(name, workers, cores)
                schedule.start(name)
                progress.start(name, threads, schedule.seconds[name])
                future = run_stage.submit(name, threads, session)
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
    for each in plan:
        session.outcomes.setdefault(each.name, ("unchanged", 0.0))
    for name, causes in schedule.blocked().items():
        session.outcomes[name] = (f"not run: needs {', '.join(causes)}", 0.0)


def _counted(outcomes: Mapping[str, tuple[str, float]]) -> str:
    hows = [how for how, _ in outcomes.values()]
    return ", ".join(f"{hows.count(how)} {how}" for how in FINE if how in hows)


def _tell(ended: "queue.Queue[str]", name: str, _: object) -> None:
    ended.put(name)


@contextmanager
def _interruptible(groups: Groups) -> Iterator[None]:
    """End all stages when the block is left by an exception, Ctrl-C and SIGTERM among them."""
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    if main:
        signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except BaseException:
        try:
            groups.stop()
        except KeyboardInterrupt:  # a second Ctrl-C
            groups.stop(HARD)
        raise
    finally:
        if main:
            signal.signal(signal.SIGTERM, before)


def run(stages: Sequence[str] = (), *, force: bool = False, workers: int = 2) -> bool:
    """Run the flow from the command line; whether every stage is done. Call flows.settings.prepare first."""
    state = pipeline(stages=list(stages) or None, force=force, workers=workers, return_state=True)
    problem = None if state.is_completed() else state.result(raise_on_failure=False)
    if isinstance(problem, Exception) and not isinstance(problem, FailedRun):  # FailedRun: a stage, reported already
        raise problem
    return state.is_completed()
