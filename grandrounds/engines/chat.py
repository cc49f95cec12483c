"""The one transport for conversations with endpoints, under generation and judging alike.

Many requests are under way at once in an event loop of its own thread; outside there is a plain iterator of answers, in
any order, with ids. Each request is answered once: by the cache, by an endpoint, or by the reason why it has no answer.
What no retry can mend (a wrong key, a spent budget, nobody there) ends the run in one line, after what was under way
has been answered and kept.
"""

import asyncio
import hashlib
import json
import os
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

from grandrounds.engines.replies import Replies, Reply
from grandrounds.engines.routing import Fault, Lanes, NotAnswered
from grandrounds.engines.spending import Ledger, Spent
from grandrounds.errors import UserError, one_line
from grandrounds.files import need
from grandrounds.params import RemoteSettings, Sampling

T = TypeVar("T")
Turn = dict[str, Any]  # role, and content: a text, or parts of type `text` and `image` (the path of a PNG)

ATTEMPTS = 8  # at a request
LONGEST_WAIT = 30.0  # seconds between two of them; a server's own Retry-After comes before this


@dataclass(frozen=True, slots=True)
class Ask:
    """One conversation to go on with. A last turn of the assistant's is a prefill, which the reply continues."""

    id: str
    messages: Sequence[Turn]
    sampling: Sampling
    seed: int | None = None  # sent where the endpoint takes one
    json: Mapping[str, Any] | None = None  # the JSON schema that the reply has to have


@dataclass(frozen=True, slots=True)
class Answer:
    id: str
    reply: Reply | None
    problem: str = ""  # why there is no reply, in one line


class Endpoint(Protocol):
    """One server, used from one event loop. Messages of its errors may hold what the server said; Chat redacts them."""

    name: str

    async def check(self) -> bool:
        """Whether it is known to serve the model, found out at no cost.

        Raises UserError for a wrong key or address, NotAnswered if nobody listens.
        """
        ...

    async def send(self, ask: Ask) -> Reply:
        """One try. Raises NotAnswered, or UserError when no request can succeed."""
        ...

    async def close(self) -> None: ...


def key_of(where: str, *variables: str, needed: bool = True) -> str:
    """The key from the environment. `where` is the section of params.yaml that asks for it."""
    for variable in variables:
        if found := os.environ.get(variable, "").strip():
            return found
    if not needed:
        return ""
    raise UserError(
        f"{where}: the environment variable {' or '.join(variables)} is not set; set it, or take another engine"
    )


class Chat:
    """Endpoints that serve one model, with its accounts and its cache. Closes itself when it is dropped."""

    def __init__(
        self, endpoints: Sequence[Endpoint], settings: RemoteSettings, where: str, secret: str, cache: Path | None
    ) -> None:
        """`where`: the key of params.yaml that holds the settings. `cache`: a folder, or None to ask anew each time."""
        self._endpoints, self._settings, self._where, self._secret = endpoints, settings, where, secret
        self._identity = f"{settings.type} {settings.model}"
        self._replies = Replies(cache / f"{_hash(self._identity)[:24]}.jsonl") if cache else None
        self._ledger = Ledger(settings.price, settings.budget, where)
        self._lanes = Lanes(endpoints, settings.concurrency, f"{where}.endpoints")
        self._pictures: dict[Path, str] = {}
        # One request leaves at a time. Otherwise all those whose replies came in together are built before the first
        # of them is written, and replies come in together ever after: a sixth of the rate at 32 requests of 50 ms.
        self._turn = asyncio.Lock()
        self._checked = False
        self._loop = _Loop()
        weakref.finalize(self, self._loop.close, [each.close for each in endpoints])

    @property
    def spent(self) -> Spent:
        return self._ledger.spent

    def run(self, asks: Iterable[Ask]) -> Iterator[Answer]:
        """Answer each request once, in any order; those of the cache come first.

        Raises UserError at the end if the run had to stop: all answers that there are have been given by then.
        """
        fresh: list[tuple[Ask, str]] = []
        for ask in asks:
            key = self._key(ask) if self._replies is not None else ""
            known = self._replies.get(key) if self._replies is not None else None
            if known is None:
                fresh.append((ask, key))
            else:
                self.spent.kept += 1
                yield Answer(ask.id, known)
        if fresh:
            yield from self._fresh(fresh)

    def _fresh(self, asks: list[tuple[Ask, str]]) -> Iterator[Answer]:
        answers: SimpleQueue[Answer | None] = SimpleQueue()
        running = self._loop.start(self._all(asks, answers))
        running.add_done_callback(lambda _: answers.put(None))
        try:
            while (answer := answers.get()) is not None:
                yield answer
            running.result()
        finally:  # the caller has left early
            running.cancel()

    async def _all(self, asks: list[tuple[Ask, str]], answers: "SimpleQueue[Answer | None]") -> None:
        self._lanes.open()
        await self._check()
        todo = iter(asks)
        stopped: list[UserError] = []

        async def work() -> None:
            for ask, key in todo:
                try:
                    answer = await self._answer(ask)
                    answers.put(answer)
                    if answer.reply is not None and self._replies is not None:
                        self._replies.put(key, answer.reply)
                except UserError as error:
                    stopped.append(error)
                if stopped:
                    return

        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._settings.concurrency, len(asks))):
                group.create_task(work())
        if stopped:
            raise self._redacted(stopped[0])

    async def _check(self) -> None:
        """Once, before anything is paid for. An endpoint that is not there is set aside while another one is."""
        if self._checked:
            return
        found = await asyncio.gather(*(each.check() for each in self._endpoints), return_exceptions=True)
        for endpoint, each in zip(self._endpoints, found, strict=True):
            if isinstance(each, UserError):
                raise self._redacted(each)
            if isinstance(each, BaseException) and not isinstance(each, NotAnswered):
                raise each
            self._lanes.checked(endpoint, each)
        if all(isinstance(each, NotAnswered) for each in found):
            raise self._lanes.unreachable()
        self._checked = True

    async def _answer(self, ask: Ask) -> Answer:
        from tenacity import (
            AsyncRetrying,
            RetryCallState,
            retry_if_exception,
            stop_after_attempt,
            wait_random_exponential,
        )

        backoff = wait_random_exponential(multiplier=0.5, max=LONGEST_WAIT)

        def wait(state: RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome else None
            assert isinstance(error, NotAnswered)
            # those are waited for where endpoints are chosen: another one may take the request at once
            return 0.0 if error.fault is Fault.DEAD or error.after is not None else backoff(state)

        retrying = AsyncRetrying(
            stop=stop_after_attempt(ATTEMPTS),
            retry=retry_if_exception(lambda error: isinstance(error, NotAnswered) and error.fault is not Fault.REFUSED),
            wait=wait,
            reraise=True,
        )
        try:
            return Answer(ask.id, self._clean(await retrying(self._attempt, ask)))
        except NotAnswered as error:
            return Answer(ask.id, None, self._redact(one_line(str(error))))

    async def _attempt(self, ask: Ask) -> Reply:
        worst = self._ledger.worst(ask.messages, ask.sampling.max_new_tokens)
        async with self._ledger.holding(worst) as charge, self._lanes.lane() as endpoint:
            try:
                await self._turn.acquire()
                _in_two_turns(self._turn.release)
                async with asyncio.timeout(self._settings.timeout):
                    reply = await endpoint.send(ask)
            except TimeoutError:
                charge.lost()
                raise NotAnswered(f"no reply within {self._settings.timeout:g} s", Fault.LOST) from None
            except asyncio.CancelledError:  # the caller has left; the endpoint may go on
                charge.lost()
                raise
            except NotAnswered as error:
                if error.fault is Fault.LOST:
                    charge.lost()
                raise
            charge.answered(reply)
            return reply

    def _key(self, ask: Ask) -> str:
        asked = [self._identity, ask.messages, ask.sampling.model_dump(), ask.seed, ask.json or False]
        return _hash(json.dumps(asked, default=self._picture))

    def _picture(self, path: Path) -> str:
        """A picture by its content: the same one under another name is the same question."""
        if path not in self._pictures:
            self._pictures[path] = hashlib.sha256(need(path).read_bytes()).hexdigest()
        return self._pictures[path]

    def _clean(self, reply: Reply) -> Reply:
        """Without our key, and without half characters, which no file could hold."""
        text, thinking = (
            self._redact(each).encode("utf-8", "replace").decode() for each in (reply.text, reply.thinking)
        )
        return Reply(text, thinking, reply.prompt_tokens, reply.tokens, one_line(self._redact(reply.stop), 40))

    def _redact(self, text: str) -> str:
        return text.replace(self._secret, "***") if self._secret else text

    def _redacted(self, error: UserError) -> UserError:
        return UserError(self._redact(one_line(str(error), 1000)))


class _Loop:
    """An event loop in a thread of its own, started when it is first needed."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self, work: Coroutine[Any, Any, T]) -> "Future[T]":
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=_run, args=(self._loop,), name="endpoints", daemon=True).start()
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def close(self, closers: Iterable[Any]) -> None:
        if self._loop is None:
            return

        async def leave() -> None:
            for close in closers:
                await close()

        asyncio.run_coroutine_threadsafe(leave(), self._loop).result(timeout=5)
        self._loop.call_soon_threadsafe(self._loop.stop)


def _in_two_turns(call: Callable[[], None]) -> None:
    """Call it once what runs now, and what that starts in turn, have had the event loop."""
    loop = asyncio.get_running_loop()
    loop.call_soon(lambda: loop.call_soon(call))


def _run(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()
    loop.close()


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
