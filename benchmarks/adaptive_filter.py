"""Samples that the difficulty filter draws when it may stop early, against all n = 16 (bounds 1 to 7).

    python benchmarks/adaptive_filter.py [--quick]

On the embedded corpus, with real rollouts of its base (models/base where `dvc repro` has made it, else one trained here
for a minute), and on four mixes of questions, each with its own chance of a right answer. "Optimum" is the best that
any exact rule can do: leave a question at the first sample after which no outcome of the rest changes the decision. The
Bayesian stop is allowed one wrong decision in a hundred; its errors are counted against all 16.
The last line is JSON.
"""

import argparse
import json
import random
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from grandrounds.domain.difficulty import Decider
from grandrounds.params import Bayesian, Exact, Full, Keep, Sampling

N, KEEP, ERROR = 16, Keep(min=1, max=7), 0.01
Outcomes = Sequence[bool]  # of one question's samples, in order


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer questions")
    quick = parser.parse_args().quick
    mixes = {name: mix(name, 5_000 if quick else 50_000) for name in ("medvlthinker", "uniform", "easy", "hard")}
    mixes["embedded"] = embedded(120 if quick else 600)
    identical, shares, saving = True, [], {}
    lost, errors, drawn, asked = 0, {}, 0, 0
    full = Decider(N, KEEP, Full(type="full"))
    for name, questions in mixes.items():
        wanted = [full.decision(N, sum(each)) for each in questions]
        exact, decided = follow(Decider(N, KEEP, Exact()), questions)
        identical &= decided == wanted
        best = sum(optimum(each, full) for each in questions)
        saving[name] = round(1 - exact / (N * len(questions)), 4)
        shares.append((N * len(questions) - exact) / (N * len(questions) - best))
        early, guessed = follow(Decider(N, KEEP, Bayesian(type="bayesian", error=ERROR)), questions)
        lost = sum(a != b for a, b in zip(guessed, wanted, strict=True))
        errors[name] = lost / len(questions)
        drawn, asked = drawn + early, asked + N * len(questions)
        kept = wanted.count("kept") / len(questions)
        print(
            f"{name:>12}: {len(questions):>6,} questions, {kept:.0%} kept; exact stop saves {saving[name]:.1%} of the "
            f"samples ({shares[-1]:.1%} of the optimum); Bayesian stop {1 - early / (N * len(questions)):.1%}, with "
            f"{errors[name]:.2%} decisions changed"
        )
    figures = {
        "identical": identical, "share_of_optimum": round(min(shares), 4), "saving": saving,
        "bayes_saving": round(1 - drawn / asked, 4), "bayes_error": round(max(errors.values()), 4),
    }  # fmt: skip
    print(json.dumps(figures))


def follow(decider: Decider, questions: Sequence[Outcomes]) -> tuple[int, list[str | None]]:
    """(samples drawn, decisions), each question left when the decider says so."""
    total, decisions = 0, []
    for outcomes in questions:
        drawn = correct = 0
        while more := decider.needed(drawn, correct):
            correct += sum(outcomes[drawn : drawn + more])
            drawn += more
        total += drawn
        decisions.append(decider.decision(drawn, correct))
    return total, decisions


def optimum(outcomes: Outcomes, full: Decider) -> int:
    """The first number of samples after which every outcome of the rest gives one decision."""
    correct = 0
    for drawn in range(N + 1):
        if len({full.reason(correct + more) for more in range(N - drawn + 1)}) == 1:
            return drawn
        correct += outcomes[drawn]
    raise AssertionError("all samples decide")


def mix(name: str, count: int) -> list[Outcomes]:
    """Questions with a chance of a right answer each. medvlthinker: many that are always or never right, as there."""
    rng = random.Random(name)
    chance = {
        "medvlthinker": lambda: rng.choices([0.0, rng.betavariate(0.6, 0.6), 1.0], [0.2, 0.55, 0.25])[0],
        "uniform": rng.random,
        "easy": lambda: rng.betavariate(5, 1),
        "hard": lambda: rng.betavariate(0.5, 4),
    }[name]
    return [[rng.random() < chance_of for _ in range(N)] for chance_of in (chance() for _ in range(count))]


def embedded(count: int) -> list[Outcomes]:
    """Rollouts of the embedded base on its own training questions."""
    from grandrounds import models
    from grandrounds.domain.answers import verify
    from grandrounds.domain.prompts import COMPACT
    from grandrounds.encoding import Encoder
    from grandrounds.engines.local import LocalEngine
    from grandrounds.engines.protocol import Request
    from grandrounds.params import EmbeddedSource
    from grandrounds.sources import embedded as source

    sizes = EmbeddedSource(pretrain=6000, train=count, val=10, test=10, unseen=10)
    splits, images = source.build(sizes, 7)
    with tempfile.TemporaryDirectory() as folder:
        for name, png in images.items():
            Path(folder, name).write_bytes(png)
        if Path("models/base/model.safetensors").is_file():
            model, processor = models.load("models/base", "cpu", "float32")
        else:
            model, processor = _trained(splits["pretrain"], Path(folder))
        engine = LocalEngine(model, Encoder(processor, folder), 7)
        asked = {
            f"{each.id}/{k}": Request(f"{each.id}/{k}", each, COMPACT["reasoning"], k)
            for each in splits["train"] for k in range(N)
        }  # fmt: skip
        outcomes: dict[str, dict[int, bool]] = defaultdict(dict)
        for completion in engine.generate(asked.values(), Sampling()):
            request = asked[completion.id]
            outcomes[request.question.id][request.sample] = verify(request.question, completion.text).correct
    return [[each[k] for k in range(N)] for each in outcomes.values()]


def _trained(questions: list, images: Path) -> tuple:
    """A base trained for about a minute: it has the format, and part of the knowledge."""
    from grandrounds.domain.prompts import COMPACT
    from grandrounds.encoding import Encoder
    from grandrounds.params import EmbeddedModel
    from grandrounds.training import embedded, sft

    spec = EmbeddedModel(batch=16)
    processor = embedded.processor(spec, embedded.corpus(questions, COMPACT), 112)
    model = embedded.prepare(embedded.model(spec, processor, 7))
    examples = embedded.examples(questions, COMPACT, 7)
    schedule = sft.Schedule(500, spec.batch, 1.5e-3, 0.05, vision_rate=0.3)
    sft.train(model, Encoder(processor, images), examples, schedule, 7, lambda *_: None)
    return model.eval(), processor


if __name__ == "__main__":
    main()
