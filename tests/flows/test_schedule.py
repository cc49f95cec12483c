"""The ready queue, without Prefect and DVC."""

import pytest

from flows.plan import Planned
from flows.schedule import Schedule


def planned(name: str, *upstream: str, action: str = "run", seconds: float = 1.0) -> Planned:
    return Planned(name, 0, upstream, action, "", seconds)  # type: ignore[arg-type]


DIAMOND = [
    planned("start"),
    planned("short", "start"),
    planned("long", "start", seconds=50),
    planned("join", "short", "long"),
    planned("side", "start"),
]


def drive(schedule: Schedule, workers: int, failing: tuple[str, ...] = ()) -> list[list[str]]:
    """Run to the end as the flow does, all that runs at once ending together; the stages of each round."""
    rounds = []
    while names := schedule.ready()[:workers]:
        for name in names:
            schedule.start(name)
        for name in names:
            schedule.finish(name, "failed" if name in failing else "ran")
        rounds.append(names)
    return rounds


def test_the_longest_chain_starts_first() -> None:
    assert drive(Schedule(DIAMOND), workers=2) == [["start"], ["long", "short"], ["join", "side"]]


def test_what_a_failure_does_not_reach_still_runs() -> None:
    schedule = Schedule(DIAMOND)
    assert drive(schedule, workers=2, failing=("long",)) == [["start"], ["long", "short"], ["side"]]
    assert schedule.blocked() == {"join": ["long"]}


def test_hits_are_never_started() -> None:
    plan = [planned("start", action="hit"), planned("short", "start", action="hit"), planned("long", "start")]
    schedule = Schedule(plan)
    assert schedule.total == 1 and drive(schedule, workers=2) == [["long"]]


def test_a_running_stage_is_not_ready_again() -> None:
    schedule = Schedule(DIAMOND)
    schedule.start("start")
    assert schedule.ready() == []


@pytest.mark.parametrize(("name", "cores"), [("start", 4), ("short", 2), ("join", 2)])
def test_a_stage_that_nothing_can_run_beside_has_every_core(name: str, cores: int) -> None:
    assert Schedule(DIAMOND).threads(name, workers=2, cores=4) == cores


def test_more_workers_than_cores_still_leave_one_each() -> None:
    assert Schedule(DIAMOND).threads("short", workers=8, cores=2) == 1


def test_time_left_counts_what_is_running_only_in_part() -> None:
    schedule = Schedule([planned("a", seconds=10), planned("b", seconds=10), planned("c", "a", seconds=10)])
    schedule.start("a")
    schedule.finish("b", "ran")
    assert schedule.seconds_left({"a": 4.0}) == 16
    assert schedule.seconds_left({"a": 99.0}) == 10
