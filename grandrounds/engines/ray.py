"""Generation by many engines at once, each in a Ray actor, on this machine or on the nodes of a cluster.

Requests are dealt in the order in which they come, a fixed number at a time, so that what is asked together is a
function of the requests and not of the number of actors, their speed or their loss. Two deals an actor are under way:
one that it answers and one that waits. However many requests there are, no more of them are held here.

An actor that is lost (killed, out of memory, its node gone) is made again, and the deals that it had are asked again
whole: a sample has its own seed, so the texts are those that the lost actor would have given. The deal that it was
answering is the suspect; one that has lost more actors than `losses` ends the run.
"""

import contextlib
import os
import signal
import weakref
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from grandrounds import runtime
from grandrounds.engines.protocol import Completion, Engine, Request
from grandrounds.errors import UserError, one_line
from grandrounds.files import need
from grandrounds.params import Params, RayEngine, Sampling

AHEAD = 2  # deals of one actor under way: it never waits for us, and a loss costs little
STORE = 512 * 2**20  # bytes of shared memory for what travels on one machine: requests and completions
CODE = Path(__file__).resolve().parents[2]  # the folder that the package is imported from
SAID = 400  # characters of Ray's report of a loss: its beginning and its end
Build = Callable[..., Engine]  # (model=, adapter=) -> engine


def placed(params: Params, settings: RayEngine, where: str) -> Params:
    """`params` for an actor: on its GPU if it has one, else on the CPU, whatever else the node has."""
    device = params.compute.device
    if device == ("cpu" if settings.gpus else "cuda"):
        raise UserError(f"{where}.gpus: {settings.gpus:g} was given, but compute.device is '{device}'; make them agree")
    compute = params.compute.model_copy(update={"device": "cuda" if settings.gpus else "cpu"})
    return params.model_copy(update={"compute": compute})


@dataclass
class Deal:
    """Requests that are asked together; those in `done` keep their place in the plan, as `Engine` says."""

    requests: list[Request]
    done: frozenset[str]
    losses: int = 0

    def __str__(self) -> str:
        return f"{len(self.requests):,} requests ({self.requests[0].id} to {self.requests[-1].id})"


@dataclass
class _Place:
    """Room for one actor. It is awaited while it loads, then for the first of its deals: it answers in order."""

    actor: Any = None
    loading: Any = None
    asked: deque[tuple[Any, Deal]] = field(default_factory=deque)
    losses: int = 0  # in a row, while loading

    @property
    def ready(self) -> bool:
        return self.actor is not None and self.loading is None

    @property
    def awaited(self) -> Any:
        return self.loading if self.loading is not None or not self.asked else self.asked[0][0]


class RayPool:
    """Actors that each hold an engine made by `build`, under the protocol of a single one."""

    def __init__(
        self,
        settings: RayEngine,
        build: Build,
        model: str | Path,
        adapter: str | Path | None,
        images: Path,
        where: str,
    ) -> None:
        """`images`: the folder of the questions' pictures, below the folder that we are in."""
        self.settings, self._where, self._model = settings, where, model
        for folder in (model, adapter):
            if folder is not None:
                need(folder)
        self._ray = _session.join(settings, where)
        weakref.finalize(self, _session.leave)
        _check_gpus(self._ray, settings, where)
        self._made_from = (build, {"model": model, "adapter": adapter}, os.getcwd(), _environment(settings))
        self._places = [_Place() for _ in range(settings.actors)]

    def generate(
        self, requests: Iterable[Request], sampling: Sampling, done: Container[str] = ()
    ) -> Iterator[Completion]:
        """Completions, deal by deal, as they come. Raises UserError for an actor's, and when too many were lost."""
        deals = _deals(requests, self.settings.deal, done)
        waiting = deque(islice(deals, 1))
        try:
            while waiting or any(place.asked for place in self._places):
                self._send(waiting, deals, sampling)
                yield from self._receive(self._next(), waiting)
        finally:  # whoever stopped listening does not want the rest
            for place in self._places:
                if place.asked:
                    self._drop(place)

    def _send(self, waiting: deque[Deal], deals: Iterator[Deal], sampling: Sampling) -> None:
        """One deal to each actor that is ready, then a second; actors that are not there yet are begun."""
        for place in self._places:
            if place.actor is None:
                self._begin(place)
        for ahead in range(AHEAD):
            for place in self._places:
                if waiting and place.ready and len(place.asked) == ahead:
                    deal = waiting.popleft()
                    place.asked.append((place.actor.answer.remote(deal.requests, sampling, deal.done), deal))
                    if not waiting:
                        waiting.extend(islice(deals, 1))

    def _next(self) -> _Place:
        """The place that has something to receive; UserError if no actor becomes ready in time."""
        awaited = {place.awaited: place for place in self._places if place.awaited is not None}
        patience = None if any(place.ready for place in self._places) else self.settings.wait
        found, _ = self._ray.wait(list(awaited), num_returns=1, timeout=patience)
        if not found:
            has = self._ray.cluster_resources()
            raise UserError(
                f"{self._where}: no actor was ready in {self.settings.wait:g} s (wait): each needs "
                f"{self.settings.gpus:g} GPU and {self.settings.cpus:g} CPU, and the cluster has "
                f"{has.get('GPU', 0):g} and {has.get('CPU', 0):g} in all; ask for less, wait longer, or add nodes"
            )
        return awaited[found[0]]

    def _receive(self, place: _Place, waiting: deque[Deal]) -> Iterator[Completion]:
        errors = self._ray.exceptions
        try:
            completions = self._ray.get(place.awaited)
        except errors.RayTaskError as error:
            if isinstance(error.cause, UserError):
                raise UserError(str(error.cause)) from None
            raise
        except (
            errors.RayActorError, errors.NodeDiedError, errors.WorkerCrashedError, errors.OutOfMemoryError,
            errors.ObjectLostError, errors.LocalRayletDiedError,
        ) as error:  # fmt: skip
            self._lost(place, waiting, str(error))
            return
        if place.loading is not None:
            place.loading, place.losses = None, 0
        else:
            place.asked.popleft()
            yield from completions

    def _lost(self, place: _Place, waiting: deque[Deal], error: str) -> None:
        """Count the loss, to the deal that was being answered or to the place; what the actor had waits again."""
        reason = one_line(error if len(error) < SAID else f"{error[: SAID // 2]} ... {error[-SAID // 2 :]}")
        deals = [deal for _, deal in place.asked]
        suspect: _Place | Deal = deals[0] if deals else place
        suspect.losses += 1
        over = f"{suspect}" if deals else f"loading {self._model}"
        if suspect.losses > self.settings.losses:
            raise UserError(
                f"{self._where}: {suspect.losses} actors were lost over {over}, and losses: {self.settings.losses} "
                f"are allowed; the last one: {reason}; give an actor more memory, or a smaller batch"
            )
        print(f"  {self._where}: an actor was lost over {over}, and is made again: {reason}", flush=True)
        waiting.extendleft(reversed(deals))
        self._drop(place)

    def _begin(self, place: _Place) -> None:
        needs = {"num_cpus": self.settings.cpus, "num_gpus": self.settings.gpus}
        place.actor = self._ray.remote(**needs)(Actor).remote()
        place.loading = place.actor.load.remote(*self._made_from)

    def _drop(self, place: _Place) -> None:
        self._ray.kill(place.actor)
        place.actor = place.loading = None
        place.asked.clear()


class Actor:
    """What runs in an actor's process: an engine, in the project's folder as this node sees it."""

    def load(self, build: Build, folders: dict[str, Any], root: str, environment: dict[str, str]) -> None:
        os.environ.update(environment)  # before torch is imported
        runtime.torch_threads()
        if not os.path.isdir(root):
            raise UserError(f"{root}: not there on node {os.uname().nodename}; share the project")
        os.chdir(root)
        self.engine = build(**folders)

    def answer(self, requests: Sequence[Request], sampling: Sampling, done: Container[str]) -> list[Completion]:
        return list(self.engine.generate(requests, sampling, done))


def _deals(requests: Iterable[Request], size: int, done: Container[str]) -> Iterator[Deal]:
    """Requests in pieces of `size`, without those pieces that are done."""
    left = iter(requests)
    while together := list(islice(left, size)):
        before = frozenset(each.id for each in together if each.id in done)
        if len(before) < len(together):
            yield Deal(together, before)


def _environment(settings: RayEngine) -> dict[str, str]:
    """What an actor's process is set to. On one machine the actors share the threads that the stage may use."""
    threads = max(1, int(settings.cpus))
    if settings.address is None:
        threads = min(threads, max(1, runtime.torch_threads() // settings.actors))
    set_here = {*runtime.QUIET, *runtime.OFFLINE, "CUBLAS_WORKSPACE_CONFIG"} & set(os.environ)
    return {name: os.environ[name] for name in sorted(set_here)} | dict.fromkeys(runtime.THREADS, str(threads))


def _check_gpus(ray: Any, settings: RayEngine, where: str) -> None:
    """One machine does not grow; a cluster may, and is waited for."""
    has = ray.cluster_resources().get("GPU", 0)
    if settings.address is None and settings.actors * settings.gpus > has:
        raise UserError(
            f"{where}: {settings.actors} actors of {settings.gpus:g} GPU each, but this machine has {has:g}; "
            "fewer actors, `gpus: 0` for the CPU, or the address of a cluster"
        )


class _Session:
    """Ray as this process uses it: begun for the first pool, ended with the last."""

    def __init__(self) -> None:
        self._pools = 0
        self._ray: Any = None  # where we began it

    def join(self, settings: RayEngine, where: str) -> Any:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
        except ImportError:
            raise UserError(
                f"{where}: engine type ray: the package is missing; `pip install 'grandrounds[ray]'`"
            ) from None
        if not ray.is_initialized():
            _begin(ray, settings, where)
            self._ray = ray
        self._pools += 1
        return ray

    def leave(self) -> None:
        self._pools -= 1
        if self._ray is not None and not self._pools:
            self._ray.shutdown()
            self._ray = None


_session = _Session()


def _begin(ray: Any, settings: RayEngine, where: str) -> None:
    options: dict[str, Any] = {"address": settings.address}
    if settings.address is None:
        cpus = max(1, round(settings.actors * settings.cpus + 0.5))  # a count for Ray; threads are ours to deal
        options = {"address": "local", "num_cpus": cpus, "include_dashboard": False, "object_store_memory": STORE}
    code = {"env_vars": {"PYTHONPATH": str(CODE)}}  # the program that this process runs, not what a node has installed
    with _own_signals():
        try:
            ray.init(**options, runtime_env=code, log_to_driver=False, logging_level="ERROR")
        except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            said = one_line(str(error), 300)
            if settings.address is None:
                raise UserError(f"{where}: Ray does not start on this machine: {said}") from error
            raise UserError(
                f"{where}.address: Ray at {settings.address} cannot be joined: {said}; see that it runs (`ray status` "
                "on one of its nodes), and that RAY_AUTH_MODE and the token here are those of the cluster"
            ) from error


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Ray takes SIGTERM for itself; the stage has a handler of its own, which leaves nothing half done."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # not the main thread, where Ray takes nothing either
            signal.signal(signal.SIGTERM, before)
