"""What Ray costs: two actors with a thread each, beside the local engine with two threads and with one.

The embedded base answers training questions. The clock runs over generation alone: Ray has started and the actors have
loaded (`first_answers_seconds` has that too). Contenders run in turn, medians of several rounds, and every text must be
the same.

    python benchmarks/ray_engine.py [--quick]
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Iterator
from itertools import islice

from grandrounds import files, forms, runtime
from grandrounds.domain import prompts
from grandrounds.engines.protocol import Engine, Request
from grandrounds.params import RayEngine, TransformersEngine, load
from grandrounds.records import Question

MODEL = "models/base"


def main(quick: bool) -> None:
    os.environ["GRANDROUNDS_THREADS"] = "2"
    params = load()
    runtime.prepare(params)
    import torch

    from grandrounds.engines import factory

    asked = list(islice(requests(), 1024 if quick else 4096))
    local = factory.make(TransformersEngine(), MODEL, params, 7, "local")
    began = time.perf_counter()
    ray = factory.make(RayEngine(type="ray", gpus=0, deal=256), MODEL, params, 7, "ray")
    told = said(ray, asked)  # the first time also loads
    ready = time.perf_counter() - began
    times: dict[str, list[float]] = {"ray": [], "two_threads": [], "one_thread": []}
    for _ in range(1 if quick else 3):
        for name, engine, threads in (("ray", ray, 2), ("two_threads", local, 2), ("one_thread", local, 1)):
            torch.set_num_threads(threads)
            began = time.perf_counter()
            assert said(engine, asked) == told, f"{name}: other texts"
            times[name].append(time.perf_counter() - began)
    seconds = {name: statistics.median(each) for name, each in times.items()}
    print(f"{len(asked):,} samples, the same texts; seconds: {seconds}")
    figures = {
        "ratio_ray": seconds["ray"] / seconds["two_threads"],
        "ratio_ray_one_thread": seconds["ray"] / seconds["one_thread"],
        "first_answers_seconds": ready,
        "samples": len(asked),
    }
    print(json.dumps({name: round(each, 3) for name, each in figures.items()}))


def requests() -> Iterator[Request]:
    form = prompts.form("reasoning", forms.read(load().prompts))
    for question in files.read("data/curated/train.parquet", Question):
        for sample in range(4):
            yield Request(f"{question.id}/{sample}", question, form, sample)


def said(engine: Engine, asked: list[Request]) -> dict[str, str]:
    sampling = load().filter.sampling
    return {each.id: each.text for each in engine.generate(asked, sampling)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    main(parser.parse_args().quick)
