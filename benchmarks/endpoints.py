"""How near generation through endpoints comes to the ideal rate, and whether a killed endpoint loses anything.

1,000 requests at a latency of 50 ms, 32 at once, to loopback servers in processes of their own: at best 640 a second.
`rate_share` is the share of that rate, median of several runs, with the preflight and all connections in it and the
import of the client library not; beside it the share of a bare asyncio client that only writes bytes and reads them
back, which is what the servers and the machine allow. `answered_after_kill` is how many of 1,000 were answered when one
of two endpoints was killed midway (the least of several runs).
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from grandrounds.domain import prompts
from grandrounds.engines.protocol import Request
from grandrounds.engines.remote import RemoteEngine
from grandrounds.params import OpenAIEngine, Sampling
from grandrounds.records import Question

REQUESTS, LATENCY, CONCURRENCY = 1000, 0.05, 32
MODEL = "m"
TEXT = "<think>The rate is above the range. It is fast.</think><answer>fast</answer>"


def body(text: str) -> bytes:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    usage = {"prompt_tokens": 60, "completion_tokens": 24, "total_tokens": 84}
    return json.dumps({"id": "1", "object": "chat.completion", "created": 1, "model": MODEL, "choices": [choice],
                       "usage": usage}).encode()  # fmt: skip


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, text: str, latency: float) -> None:
    """One connection: POSTs are answered after the latency, GET /models at once."""
    completion, models = body(text), json.dumps({"data": [{"id": MODEL}]}).encode()
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            sent = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
            await reader.readexactly(int(sent or 0))
            if head.startswith(b"POST"):
                await asyncio.sleep(latency)
            said = completion if head.startswith(b"POST") else models
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(said))
            writer.write(said)
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


def serve(ports: "multiprocessing.Queue[int]", text: str, latency: float) -> None:
    async def run() -> None:
        server = await asyncio.start_server(
            lambda reader, writer: answer(reader, writer, text, latency), "127.0.0.1", 0, backlog=256
        )
        ports.put(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


@contextmanager
def servers(
    count: int, text: str = TEXT, latency: float = LATENCY
) -> Iterator[tuple[list[multiprocessing.process.BaseProcess], list[int]]]:
    """Processes that answer every request with `text`, and their ports."""
    context = multiprocessing.get_context("spawn")
    ports: multiprocessing.Queue[int] = context.Queue()
    processes, found = [], []
    try:
        for _ in range(count):
            process = context.Process(target=serve, args=(ports, text, latency), daemon=True)
            process.start()
            processes.append(process)
            found.append(ports.get(timeout=60))
        yield processes, found
    finally:
        for process in processes:
            process.kill()
            process.join()


def requests(count: int) -> list[Request]:
    asked = prompts.FULL["reasoning"]
    rows = []
    for i in range(count):
        text = f"A patient of {i} years has a heart rate of 120 a minute. Is it slow, normal or fast?"
        question = Question(f"q{i}", "s", "train", "g", "other", "t", "text", "multiple_choice", text,
                            ["slow", "normal", "fast"], "fast", "", [], "", [], "", "")  # fmt: skip
        rows.append(Request(f"q{i}/0", question, asked))
    return rows


def engine(ports: list[int]) -> RemoteEngine:
    urls = tuple(f"http://127.0.0.1:{port}/v1" for port in ports)
    settings = OpenAIEngine(type="openai", model=MODEL, endpoints=urls, concurrency=CONCURRENCY, timeout=30)
    return RemoteEngine(settings, Path(), 7, None)


def ours(ports: list[int]) -> float:
    asked, remote = requests(REQUESTS), engine(ports)
    start = time.perf_counter()
    found = [each.id for each in remote.generate(asked, Sampling()) if each.text == TEXT]
    took = time.perf_counter() - start
    assert sorted(found) == sorted(each.id for each in asked), "a request was lost, or answered twice"
    return took


def bare(port: int) -> float:
    """The same load from streams alone: no HTTP library, no JSON."""
    message = b"POST / HTTP/1.1\r\ncontent-length: 400\r\n\r\n" + b"x" * 400

    async def run() -> None:
        todo = iter(range(REQUESTS))

        async def work() -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for _ in todo:
                writer.write(message)
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(head.rpartition(b"content-length:")[2]))
            writer.close()

        await asyncio.gather(*(work() for _ in range(CONCURRENCY)))

    start = time.perf_counter()
    asyncio.run(run())
    return time.perf_counter() - start


def answered_after_kill() -> int:
    with servers(2) as (processes, ports):
        found: set[str] = set()
        for each in engine(ports).generate(requests(REQUESTS), Sampling()):
            if each.text == TEXT:
                found.add(each.id)
            if len(found) == REQUESTS // 3:
                processes[0].kill()
        return len(found)


def without_proxies() -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        os.environ.pop(name, None)  # loopback has none


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer repetitions; the sizes stay")
    repeats = 3 if parser.parse_args().quick else 7
    without_proxies()
    ideal = REQUESTS / CONCURRENCY * LATENCY
    with servers(1) as (_, ports):
        list(engine(ports).generate(requests(1), Sampling()))  # imports the client library
        took, floor = [], []
        for _ in range(repeats):
            floor.append(bare(ports[0]))
            took.append(ours(ports))
    answered = min(answered_after_kill() for _ in range(1 if repeats == 3 else 3))
    figures = {
        "rate_share": round(ideal / statistics.median(took), 3),
        "rate_share_bare": round(ideal / statistics.median(floor), 3),
        "requests_per_second": round(REQUESTS / statistics.median(took), 1),
        "answered_after_kill": answered,
    }
    print(f"{REQUESTS} requests at {LATENCY * 1000:g} ms, {CONCURRENCY} at once; ideal {ideal:.3f} s")
    print(f"ours  {', '.join(f'{each:.3f}' for each in took)} s")
    print(f"bare  {', '.join(f'{each:.3f}' for each in floor)} s")
    print(f"one of two endpoints killed midway: {answered} of {REQUESTS} answered")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
