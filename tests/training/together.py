"""The tiny model trained as one of several processes: `together.py <plain|ddp|fsdp> <model> <images> <output>`."""

import json
import os
import sys
from pathlib import Path
from typing import Any

from grandrounds import models, runtime
from grandrounds.domain import prompts, rewards
from grandrounds.encoding import Encoder
from grandrounds.params import Checkpoints, Compute, EmbeddedSource, GrpoItem, Lora
from grandrounds.runtime import seed_everything
from grandrounds.sources import embedded
from grandrounds.training import adapter, grpo, sft, validation
from grandrounds.training.checkpoints import keeping

FORM = prompts.form("reasoning", prompts.COMPACT)


def main(how: Any, folder: str, images: str, output: str) -> None:
    """SFT, and but for shards GRPO; the first process writes the losses and adapters."""
    os.chdir(output)
    questions = embedded.build(EmbeddedSource(pretrain=200, train=60, val=40, test=40, unseen=40), 7)[0]["train"]
    compute = Compute(launch=how, processes=runtime.processes())
    losses: dict[str, list[float]] = {"sft": [], "grpo": []}

    def loaded() -> tuple[Any, Encoder]:
        model, processor = models.load(folder, "cpu", "float32")
        seed_everything(7)
        return adapter.attach(model, Lora(r=4)), Encoder(processor, images)

    model, encoder = loaded()
    data = [sft.Example(q, FORM, prompts.target(q.explanation, q.answer, FORM)) for q in questions[:16]]
    settings = Checkpoints(every=2, questions=4, max_new_tokens=4, keep="best")
    scorer = validation.scorer(encoder, questions[20:30], FORM, settings, 7)
    with keeping("adapt", how, "same", settings, "base", score=scorer) as keeper:
        told = sft.train(
            model, encoder, data, sft.Schedule(3, 8, 1e-2, 0.0), 7,
            lambda _, figures: losses["sft"].append(figures["loss"]), keeper, compute,
        )  # fmt: skip
        assert told["checkpoints"]["kept"] in (2, 3)
        adapter.save(model, "sft")
    if how != "fsdp":
        model, encoder = loaded()
        item = GrpoItem(
            questions=Path("train"), init=Path("base"), rewards={"format": 1.0, "length": 1.0}, group=4,
            questions_per_step=4, steps=3, max_new_tokens=8, learning_rate=1e-2, beta=0.1,
        )  # fmt: skip
        functions, _ = rewards.build(item.rewards, limit=8)
        grpo.train(
            model, encoder, questions[:12], functions, item, prompts.COMPACT, 7,
            lambda _, figures: losses["grpo"].append(figures["loss"]), compute=compute,
        )  # fmt: skip
    if runtime.first():
        Path("losses.json").write_text(json.dumps(losses))


if __name__ == "__main__":
    main(*sys.argv[1:])
