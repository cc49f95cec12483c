"""How long scoring and judging take: 50,000 predictions read, scored and judged from the cache; verdicts over the wire.

`score_seconds_50k`: from predictions/*.parquet on disk to the figures of every arm (verifier's readings, intervals,
tests), without BERTScore. `cached_seconds_50k`: 50,000 verdicts of a language model whose replies are all in the cache.
`share_of_ideal`: 1,000 verdicts from a loopback server with 50 ms latency, 32 at once, as a share of the ideal 640 a
second. Medians of several runs; the server is a process of its own.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

from endpoints import CONCURRENCY, LATENCY, MODEL, servers, without_proxies

from grandrounds import files
from grandrounds.domain.answers import verify
from grandrounds.domain.scoring import summarise
from grandrounds.engines import judges
from grandrounds.engines.remote import connect
from grandrounds.params import Judge, OpenAIEngine
from grandrounds.records import Prediction, Question

ARMS, QUESTIONS = 10, 5000  # 50,000 predictions
VERDICTS = 1000
REPLY = '{"evaluation": "The rate is above the range.", "reasoning_score": 1, "prediction_score": 1}'
PROMPT = "Grade the prediction. Reply with JSON only."


def questions(count: int) -> list[Question]:
    rows = []
    for i in range(count):
        text = f"A patient of {i} years has a heart rate of {60 + i % 80} a minute. Is it slow, normal or fast?"
        rows.append(
            Question(f"q{i}", "s", "test", f"g{i // 2}", ("pediatrics", "other")[i % 2], f"t{i % 7}", "text",
                     "multiple_choice", text, ["slow", "normal", "fast"], "fast", "", [],
                     "60 to 100 is normal. The rate is above it. Fast.", ["60 to 100 is normal"], "fast", "")
        )  # fmt: skip
    return rows


def predictions(arm: int, asked: list[Question]) -> list[Prediction]:
    """Answers in the right form, three of four correct, with some hundreds of words of thinking."""
    rows = []
    for i, question in enumerate(asked):
        said = "fast" if (i + arm) % 4 else "slow"
        thinking = "The range has to be known. " * 40 + f"{arm} {i} 60 to 100 is normal. So {said}."
        text = f"<think>{thinking}</think><answer>{said}</answer>"
        read = verify(question, text)
        rows.append(
            Prediction(f"arm{arm}", question.id, "test", "reasoning", text, 300, True, read.extracted, read.format_ok,
                       read.answer, read.correct, read.correct)
        )  # fmt: skip
    return rows


def settings() -> Judge:
    return Judge(judges={"reference": {"type": "reference"}}, prompt=PROMPT, baselines=("arm0", "arm1"))


def score(folder: Path) -> float:
    """Read 50,000 predictions, read their answers again, judge them by reference, and make every figure."""
    begin = time.perf_counter()
    asked = files.read(folder / "test.parquet", Question)
    by_id = {question.id: question for question in asked}
    rows = [row for arm in range(ARMS) for row in files.read(folder / f"arm{arm}.parquet", Prediction)]
    for row in rows:
        question = by_id[row.question_id]
        verify(question, row.completion)
        verify(question, row.completion, strict=False)
    verdicts = judges.Reference("reference").judge([(by_id[row.question_id], row) for row in rows])
    found = summarise(asked, rows, verdicts, settings(), seed=7)
    assert found["arm3"]["test"]["n"] == QUESTIONS and found["arm3"]["test"]["reasoning_n"] == QUESTIONS
    return time.perf_counter() - begin


def judged(port: int, cache: Path | None, cases: list[judges.Case]) -> float:
    """Seconds for a verdict on every case: the whole of what the stage does for one judge."""
    urls = (f"http://127.0.0.1:{port}/v1",)
    remote = OpenAIEngine(type="openai", model=MODEL, endpoints=urls, concurrency=CONCURRENCY, timeout=30)
    begin = time.perf_counter()
    verdicts = judges.LanguageModel("llm", connect(remote, "judge.judges.llm", cache), PROMPT).judge(cases)
    took = time.perf_counter() - begin
    assert len(verdicts) == len(cases) and all(each.prediction_score == 1 for each in verdicts), "a verdict is missing"
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer repetitions; the sizes stay")
    repeats = 3 if parser.parse_args().quick else 5
    without_proxies()
    asked = questions(QUESTIONS)
    by_arm = [predictions(arm, asked) for arm in range(ARMS)]
    cases = [(question, row) for rows in by_arm for question, row in zip(asked, rows, strict=True)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files.write(folder / "test.parquet", asked, Question)
        for arm, rows in enumerate(by_arm):
            files.write(folder / f"arm{arm}.parquet", rows, Prediction)
        spent = time.process_time()
        scored = [score(folder) for _ in range(repeats)]
        spent = (time.process_time() - spent) / repeats
        with servers(1, REPLY, 0.0) as (_, (port,)):
            filled = judged(port, folder / "cache", cases)
        cached = [judged(port, folder / "cache", cases) for _ in range(repeats)]  # nobody listens there any more
    ideal = VERDICTS / CONCURRENCY * LATENCY
    with servers(1, REPLY, LATENCY) as (_, (port,)):
        wired = [judged(port, None, cases[:VERDICTS]) for _ in range(2 * repeats)]
    figures = {
        "score_seconds_50k": round(statistics.median(scored), 2),
        "cached_seconds_50k": round(statistics.median(cached), 2),
        "share_of_ideal": round(ideal / statistics.median(wired), 3),
    }
    load = os.getloadavg()[0]
    print(f"scored  {', '.join(f'{each:.2f}' for each in scored)} s, {spent:.1f} s of a core; load {load:.1f}")
    print(f"cached  {', '.join(f'{each:.2f}' for each in cached)} s; the first time, over the wire, {filled:.1f} s")
    print(f"wired   {', '.join(f'{each:.3f}' for each in wired)} s; ideal {ideal:.3f} s")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
