"""Which stage starts next: pure bookkeeping for the flow, so that it can be tested without Prefect."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from flows.plan import Planned, alone, ancestors, ranks

FINE = ("ran", "unchanged", "restored")


@dataclass
class Schedule:
    """A ready queue over a plan. Stages start as soon as their upstreams are done, the longest chain first."""

    plan: Sequence[Planned]
    done: dict[str, str] = field(default_factory=dict)  # stage -> outcome
    running: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._graph: Mapping[str, Sequence[str]] = {each.name: each.upstream for each in self.plan}
        self.seconds = {each.name: each.seconds for each in self.plan}
        to_run = [each.name for each in self.plan if each.action == "run"]
        self._rank = ranks(self._graph, self.seconds)
        self._alone = alone(self._graph, to_run)
        self.done |= {each.name: "unchanged" for each in self.plan if each.action == "hit"}
        self.total = len(to_run)

    def ready(self) -> list[str]:
        """Stages whose upstreams are all done and fine, in the order in which they should start."""
        waiting = [name for name in self._graph if name not in self.done and name not in self.running]
        able = [name for name in waiting if all(self.done.get(up) in FINE for up in self._graph[name])]
        return sorted(able, key=lambda name: (-self._rank[name], name))

    def start(self, name: str) -> None:
        self.running.add(name)

    def finish(self, name: str, outcome: str) -> None:
        self.running.discard(name)
        self.done[name] = outcome

    def blocked(self) -> dict[str, list[str]]:
        """Stages that were not run, each with the failed stages that it needs."""
        failed = [name for name, outcome in self.done.items() if outcome not in FINE]
        return {
            name: sorted(set(failed) & ancestors(self._graph, name)) for name in self._graph if name not in self.done
        }

    def threads(self, name: str, workers: int, cores: int) -> int:
        """Cores for a stage: its share, or all of them when nothing could run beside it."""
        return cores if name in self._alone else max(1, cores // workers)

    def seconds_left(self, elapsed: Mapping[str, float]) -> float:
        """Work that is left, in seconds of one worker, by the stages' last run times; `elapsed` of those running."""
        left = (name for name in self._graph if name not in self.done)
        return sum(max(0.0, self.seconds[name] - elapsed.get(name, 0.0)) for name in left)
