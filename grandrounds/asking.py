"""What every arm is asked: each split and benchmark, under which prompts, how often, with which sampling.

`predict` asks by this plan, and `judge` holds predictions against it, so that the two cannot differ.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from grandrounds.params import Params, Sampling

REASONING, TEXT_ONLY, SAMPLED = "reasoning", "text_only", "sampled"
BENCHMARKS = "data/curated/benchmarks"


@dataclass(frozen=True)
class Round:
    """One pass over one set of questions."""

    split: str
    path: str  # of its questions
    prompt: str  # as predictions call it
    sampling: Sampling
    samples: int = 1

    @property
    def form(self) -> str:
        """The prompt form that is sent."""
        return REASONING if self.prompt in (TEXT_ONLY, SAMPLED) else self.prompt


def sets(params: Params) -> dict[str, str]:
    """Split or benchmark -> the file of its questions."""
    found = {split: f"data/curated/{split}.parquet" for split in params.predict.splits}
    return found | {name: f"{BENCHMARKS}/{name}.parquet" for name in params.benchmarks}


def rounds(params: Params) -> Iterator[Round]:
    settings = params.predict
    for split, path in sets(params).items():
        benchmark = params.benchmarks.get(split)
        prompts = benchmark.prompts if benchmark else settings.prompts
        sampling = (benchmark.sampling if benchmark else None) or settings.sampling
        yield from (Round(split, path, prompt, sampling) for prompt in prompts)
        if benchmark and benchmark.samples:
            drawn = benchmark.samples_at or settings.sampling.model_copy(update={"temperature": 1.0})
            yield Round(split, path, SAMPLED, drawn, benchmark.samples)
