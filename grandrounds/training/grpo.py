"""Reinforcement with verifiable rewards: TRL's GRPOTrainer, with prompts dealt per rollout and our advantages.

Here is how a training is set up and run. The subclass is in grpo_trainer.py; which question is asked under which prompt,
and how its rollouts are drawn, in dealing.py; what is logged and kept of a training, in watching.py.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from grandrounds.domain.prompts import Form
from grandrounds.encoding import Encoder
from grandrounds.errors import UserError
from grandrounds.params import GrpoItem
from grandrounds.records import Question
from grandrounds.training import checkpoints
from grandrounds.training.checkpoints import Keeper
from grandrounds.training.dealing import Rollouts
from grandrounds.training.grpo_trainer import trainer_class
from grandrounds.training.watching import OnStep, watcher


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
    watch = watcher(on_step)
    rows = [{"prompt": [{"role": "user", "content": each.question}], "row": i} for i, each in enumerate(questions)]
    trainer = trainer_class()(
        model=model, reward_funcs=list(rewards), args=_config(item, seed, keeper), processing_class=encoder.processor,
        train_dataset=Dataset.from_list(rows), callbacks=[watch],
    )  # fmt: skip
    trainer.deal(encoder, questions, Rollouts.of(item, forms), item)
    trainer.remove_callback(PrinterCallback)
    checkpoints.run(trainer, keeper, watch.take)
    if "ref" in model.peft_config:  # TRL's copy of the start, for the KL term; not to be saved with the policy
        model.delete_adapter("ref")
    return watch.summary(list(item.rewards)) | keeper.figures()


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
