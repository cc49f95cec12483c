"""Reinforcement with verifiable rewards: TRL's GRPOTrainer, with prompts dealt per rollout and our advantages.

One small subclass. A group's rollouts may stand under different prompt forms (guidelines), which TRL cannot express;
rewards are TRL's own contract, and with plain GRPO the advantages are TRL's own numbers.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from grandrounds import decoding
from grandrounds.domain import advantages as ours
from grandrounds.domain import prompts
from grandrounds.domain.prompts import Form
from grandrounds.encoding import Encoder
from grandrounds.errors import UserError
from grandrounds.params import Gba, GrpoItem, Sampling
from grandrounds.records import Question
from grandrounds.runtime import derive_seed
from grandrounds.training import checkpoints
from grandrounds.training.checkpoints import Keeper

OnStep = Callable[[int, dict[str, float]], None]

# TRL's name -> ours in curves.csv
LOGGED = {
    "loss": "loss", "reward": "reward", "reward_std": "reward_std", "kl": "kl", "entropy": "entropy",
    "completions/mean_length": "completion_length", "frac_reward_zero_std": "zero_variance_share",
    "clip_ratio/region_mean": "clip_fraction", "grad_norm": "grad_norm",
}  # fmt: skip


@dataclass(frozen=True)
class Rollouts:
    """How a question's rollouts are asked for: under one form each question, or each guideline in turn."""

    forms: tuple[Form, ...]
    spread: bool  # True: a group is dealt to all forms alike; False: each question has one form

    @classmethod
    def of(cls, item: GrpoItem, forms: Mapping[str, Form]) -> "Rollouts":
        guided = isinstance(item.advantages, Gba)
        names = item.advantages.guidelines if isinstance(item.advantages, Gba) else item.prompts
        return cls(tuple(prompts.form(name, forms) for name in names), guided)

    def form(self, row: int, rollout: int, group: int) -> int:
        """Which form rollout `rollout` of question `row` stands under."""
        if self.spread:
            return rollout * len(self.forms) // group
        return row % len(self.forms)


def train(
    model: Any,
    encoder: Encoder,
    questions: Sequence[Question],
    rewards: Sequence[Callable],
    item: GrpoItem,
    forms: Mapping[str, Form],
    seed: int,
    on_step: OnStep,
    keeper: Keeper | None = None,
) -> dict[str, Any]:
    """Train a PEFT model in place, and return what the stage's metrics report.

    `rewards` are named functions in the order of `item.rewards`. Raises UserError when no question is left to train
    on, or when a loss or reward is not finite.
    """
    from datasets import Dataset
    from transformers import PrinterCallback

    if not questions:
        raise UserError(f"grpo: {item.questions} keeps no question of {', '.join(item.modalities)}; loosen filter.keep")
    keeper = keeper or checkpoints.none()
    watcher = _watcher(on_step)
    rows = [{"prompt": [{"role": "user", "content": each.question}], "row": i} for i, each in enumerate(questions)]
    trainer = _trainer_class()(
        model=model, reward_funcs=list(rewards), args=_config(item, seed, keeper), processing_class=encoder.processor,
        train_dataset=Dataset.from_list(rows), callbacks=[watcher],
    )  # fmt: skip
    trainer.deal(encoder, questions, Rollouts.of(item, forms), item)
    trainer.remove_callback(PrinterCallback)
    checkpoints.run(trainer, keeper, watcher.take)
    if "ref" in model.peft_config:  # TRL's copy of the start, for the KL term; not to be saved with the policy
        model.delete_adapter("ref")
    return watcher.summary(list(item.rewards)) | keeper.figures()


def _config(item: GrpoItem, seed: int, keeper: Keeper) -> Any:
    import torch
    from trl import GRPOConfig

    size = item.group * item.questions_per_step
    return GRPOConfig(
        output_dir=".scratch/grpo", max_steps=item.steps, per_device_train_batch_size=size,
        gradient_accumulation_steps=1, num_generations=item.group, steps_per_generation=1, num_iterations=1,
        learning_rate=item.learning_rate, lr_scheduler_type="linear", warmup_steps=max(1, item.steps // 20),
        beta=item.beta, epsilon=item.clip, loss_type=item.loss, temperature=item.temperature, top_p=1.0, top_k=0,
        max_completion_length=item.max_new_tokens, reward_weights=list(item.rewards.values()),
        scale_rewards="group", seed=seed, data_seed=seed, report_to=[], logging_steps=1, logging_nan_inf_filter=False,
        **keeper.arguments(),
        disable_tqdm=True, remove_unused_columns=False, use_cpu=not torch.cuda.is_available(),
        bf16=False, gradient_checkpointing=False, dataloader_pin_memory=False, max_grad_norm=1.0, adam_beta2=0.95,
    )  # fmt: skip


def _trainer_class() -> type:
    """GRPOTrainer with prompts per rollout and our advantages. Built here, as importing TRL takes seconds."""
    import torch
    from trl import GRPOTrainer

    class DealtGRPOTrainer(checkpoints.Resumable, GRPOTrainer):
        def deal(self, encoder: Encoder, questions: Sequence[Question], rollouts: Rollouts, item: GrpoItem) -> None:
            self._encoder, self._questions, self._rollouts, self._item = encoder, questions, rollouts, item

        def _generate_and_score_completions(self, inputs: list[dict]) -> dict:
            """Rewrite each rollout's prompt before, and replace the advantages after."""
            group = self.num_generations
            forms = [self._rollouts.form(each["row"], i % group, group) for i, each in enumerate(inputs)]
            self._asked = [
                (self._questions[each["row"]], self._rollouts.forms[f]) for each, f in zip(inputs, forms, strict=True)
            ]
            pictured = any(question.image for question, _ in self._asked)
            dealt = [_row(self._encoder, question, form, pictured) for question, form in self._asked]
            output = super()._generate_and_score_completions(dealt)
            guidelines = torch.tensor(forms, device=self._scored.device)
            weights = self.reward_weights
            found = ours.advantages(self._scored, weights, group, guidelines, self._item.advantages)
            output["advantages"] = found.to(output["advantages"])
            shares = ours.advantage_shares(self._scored, weights, group)
            for name, share in zip(self.reward_func_names, shares.tolist(), strict=True):
                self._metrics["train"][f"advantage_share/{name}"].append(share)
            return output

        def _tokenize_prompts(self, asked: list) -> tuple:
            """Our own encoding: prefilled turns are continued, and each prompt is encoded once."""
            rows = [self._encoder.prompt(question, form) for question, form in self._asked]
            fields: dict[str, Any] = {}
            for name in sorted({name for row in rows for name in row.vision}):
                fields[name] = torch.cat([row.vision[name] for row in rows if name in row.vision])
            images = None
            if fields:
                fields["mm_token_type_ids"] = [row.kinds for row in rows]
                images = [[self._encoder.image(q)] if q.image else [] for q, _ in self._asked]
            return [row.ids for row in rows], images, fields

        def _generate_single_turn(
            self, prompt_ids: list, images: Any, multimodal_fields: dict, num_generations: int, **more: Any
        ) -> tuple:
            """Our own decoding, which encodes a prompt once for all its rollouts; sharded models keep TRL's."""
            if self.use_vllm or self.is_deepspeed_enabled or self.is_fsdp_enabled:
                return super()._generate_single_turn(prompt_ids, images, multimodal_fields, num_generations, **more)
            model = self.accelerator.unwrap_model(self.model_wrapped)
            seed = derive_seed(self.args.seed, self.state.global_step, self.accelerator.process_index)
            return rollouts(model, self._encoder, self._asked, self._item, seed), None

        def _calculate_rewards(self, inputs: list, asked: list, completions: list, ids: list) -> torch.Tensor:
            self._scored = super()._calculate_rewards(inputs, asked, completions, ids)
            if torch.isinf(self._scored).any():
                raise UserError(f"step {self.state.global_step}: a reward is infinite; see grpo.items rewards")
            return self._scored

    return DealtGRPOTrainer


def _row(encoder: Encoder, question: Question, form: Form, pictured: bool) -> dict[str, Any]:
    """What TRL and the rewards see of a rollout. In a batch with pictures every row has `images`, even if empty."""
    row = {
        "prompt": prompts.messages(question, form),
        "question": dataclasses.asdict(question),
        "prefill": form.prefill,
    }
    return row | ({"images": [encoder.image(question)] if question.image else []} if pictured else {})


def rollouts(
    model: Any, encoder: Encoder, asked: Sequence[tuple[Question, Form]], item: GrpoItem, seed: int
) -> list[list[int]]:
    """One completion's tokens for each rollout, end-of-turn token included where it came; groups stand side by side.

    The rollouts of a group that stand under one form share one prompt.
    """
    places: dict[tuple[int, Form], list[int]] = {}
    for place, (_, form) in enumerate(asked):
        places.setdefault((place // item.group, form), []).append(place)
    prompts = [encoder.prompt(*asked[shared[0]]) for shared in places.values()]
    seeds = [[derive_seed(seed, place) for place in shared] for shared in places.values()]
    sampling = Sampling(temperature=item.temperature, max_new_tokens=item.max_new_tokens)
    found: dict[int, list[int]] = {}
    for shared, drawn in zip(places.values(), decoding.draw(model, encoder, prompts, seeds, sampling), strict=True):
        for place, sample in zip(shared, drawn, strict=True):
            found[place] = [*sample.ids, encoder.end] if sample.finished else sample.ids
    return [found[place] for place in range(len(asked))]


def _watcher(on_step: OnStep) -> Any:
    """A callback that hands each step's figures on under our names, and stops at a loss that is not finite."""
    import math

    from transformers import TrainerCallback

    class Watcher(TrainerCallback):
        def __init__(self) -> None:
            self.seen: list[dict[str, float]] = []

        def on_log(self, args: Any, state: Any, control: Any, logs: dict | None = None, **_: Any) -> None:
            if logs and "reward" in logs:
                self.take(state.global_step, logs)

        def take(self, step: int, logs: Mapping[str, float]) -> None:
            figures = {LOGGED[name]: float(value) for name, value in logs.items() if name in LOGGED}
            for name, value in logs.items():
                if name.startswith("rewards/") and name.endswith("/mean"):
                    figures[name.removesuffix("/mean")] = float(value)
                elif name.startswith("advantage_share/"):
                    figures[name] = float(value)
            if not math.isfinite(figures["loss"]):
                raise UserError(f"step {step}: the loss is {figures['loss']}; lower the learning rate")
            self.seen.append(figures)
            on_step(step, figures)

        def summary(self, names: list[str]) -> dict[str, Any]:
            tenth = max(1, len(self.seen) // 10)

            def mean(name: str, part: list[dict[str, float]]) -> float:
                values = [step[name] for step in part if math.isfinite(step.get(name, math.nan))]
                return sum(values) / len(values) if values else 0.0

            first, last = self.seen[:tenth], self.seen[-tenth:]
            return {
                "reward_first": mean("reward", first),
                "reward_last": mean("reward", last),
                "zero_variance_share": mean("zero_variance_share", self.seen),
                "completion_length_last": mean("completion_length", last),
                "rewards": {
                    n: {"first": mean(f"rewards/{n}", first), "last": mean(f"rewards/{n}", last)} for n in names
                },
                "advantage_share": {n: mean(f"advantage_share/{n}", self.seen) for n in names},
            }

    return Watcher()
