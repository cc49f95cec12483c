"""Which of several endpoints takes the next request: the least busy of those that are well.

An endpoint that refuses connections, or fails several times in a row beside others that answer, is set aside and tried
again later with one request, each time after a longer rest. One that says "slow down" rests as long as it asks, and
gets half as many requests at once until it has answered some. Fresh ones, of which nothing is known yet, get one.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Generic, Protocol, TypeVar

from grandrounds.errors import UserError

FIRST_REST, LONGEST_REST = 0.5, 30.0  # seconds; doubled from one to the other
PATIENCE = 600.0  # seconds, also when a server's Retry-After asks for more
FAILURES = 3  # in a row, after which an endpoint is set aside
TRIES = 6  # of an endpoint that refuses connections, before we stop if there is no other: about half a minute


class Fault(Enum):
    """Why a request was not answered, by what it says about the request, the endpoint and the bill."""

    REFUSED = "this request is refused, and would be again"
    SLOW_DOWN = "the endpoint asks for fewer requests"
    DEAD = "nobody listens there"
    BROKEN = "the endpoint failed, and charges nothing"
    LOST = "sent, but no whole reply came back: it may be charged"


class NotAnswered(Exception):
    """A call that failed. The message is one line and holds no key."""

    def __init__(self, reason: str, fault: Fault, after: float | None = None) -> None:
        super().__init__(reason)
        self.fault, self.after = fault, after  # after: seconds that the server asks us to wait


class Named(Protocol):
    name: str


E = TypeVar("E", bound=Named)


@dataclass
class _Lane(Generic[E]):
    endpoint: E
    full: int  # requests at once, at most
    limit: float = 1.0  # and now
    busy: int = 0
    until: float = 0.0  # rests until then, by the loop's clock
    failures: int = 0  # in a row
    reason: str = ""  # of the last one
    dead: bool = False
    trying: bool = True  # fresh, or set aside: one request at a time until it answers
    marked: float = 0.0  # what was sent before then tells nothing new

    def answered(self) -> None:
        self.limit = self.full if self.trying else min(self.full, self.limit + 1 / self.limit)
        self.failures, self.dead, self.trying = 0, False, False

    def failed(self, error: NotAnswered, sent: float, now: float, alone: bool) -> None:
        if error.fault is Fault.REFUSED:
            return
        if error.after is not None:
            self.until = max(self.until, now + min(error.after, PATIENCE))
        if sent < self.marked:
            return
        if error.fault is Fault.SLOW_DOWN:
            self.limit, self.marked, self.trying = max(1.0, self.limit / 2), now, False
            return
        self.failures += 1
        self.reason = str(error)
        self.dead = error.fault is Fault.DEAD
        if self.dead or (self.failures >= FAILURES and not alone):
            self.limit, self.marked, self.trying = 1.0, now, True
            self.until = max(self.until, now + min(FIRST_REST * 2 ** (self.failures - 1), LONGEST_REST))


class Lanes(Generic[E]):
    """One lane an endpoint, used from one event loop. `where` is the key of params.yaml that lists them."""

    def __init__(self, endpoints: Sequence[E], concurrency: int, where: str) -> None:
        self._lanes = [_Lane(endpoint, concurrency) for endpoint in endpoints]
        self._where = where
        self._changed = asyncio.Event()
        self._stop: UserError | None = None

    def open(self) -> None:
        """Begin a run: an earlier one's stop is forgotten."""
        self._stop = None

    @asynccontextmanager
    async def lane(self) -> AsyncIterator[E]:
        """An endpoint for one request, waited for if need be. Raises UserError when none answers any more."""
        clock = asyncio.get_running_loop().time
        lane = await self._free()
        sent = clock()
        try:
            yield lane.endpoint
        except NotAnswered as error:
            lane.failed(error, sent, clock(), alone=len(self._lanes) == 1)
            raise
        except UserError as error:  # no request can succeed: those that wait are not sent
            self._stop = error
            raise
        else:
            lane.answered()
        finally:
            lane.busy -= 1
            self._changed.set()

    async def _free(self) -> _Lane[E]:
        clock = asyncio.get_running_loop().time
        while True:
            if self._stop is not None:
                raise self._stop
            if all(lane.dead and lane.failures >= TRIES for lane in self._lanes):
                raise self.unreachable()
            now = clock()
            free = [lane for lane in self._lanes if lane.until <= now and lane.busy < int(lane.limit)]
            if free:
                lane = min(free, key=lambda each: each.busy)
                lane.busy += 1
                return lane
            self._changed.clear()
            rests = [lane.until for lane in self._lanes if lane.until > now]
            try:
                async with asyncio.timeout_at(min(rests) if rests else None):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def checked(self, endpoint: E, found: bool | NotAnswered) -> None:
        """What a check said: whether the endpoint is known to serve the model, or that nobody is there."""
        now = asyncio.get_running_loop().time()
        lane = next(each for each in self._lanes if each.endpoint is endpoint)
        if isinstance(found, NotAnswered):
            lane.failed(found, now, now, alone=False)
        elif found:
            lane.answered()

    def unreachable(self) -> UserError:
        said = "; ".join(f"{lane.endpoint.name}: {lane.reason}" for lane in self._lanes)
        return UserError(f"{self._where}: no endpoint answers ({said}); start the server, or mend the address")
