"""Reinforcement with verifiable rewards: TRL's GRPOTrainer, with prompts dealt per rollout and our advantages.

Here a training is set up and run. The subclass is in grpo_trainer.py; which question is asked under which prompt, and
how its rollouts are drawn, in dealing.py; what is logged and kept of a training, in watching.py.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from grandrounds import runtime
from grandrounds.domain.prompts import Form
from grandrounds.domain.rewards import weights_at
from grandrounds.encoding import Encoder
from grandrounds.errors import UserError
from grandrounds.params import Compute, Gdpo, Grouped, GrpoItem
from grandrounds.records import Question
from grandrounds.training import checkpoints, devices, guarding
from grandrounds.training.checkpoints import Keeper
from grandrounds.training.dealing import Rollouts, micro_batch
from grandrounds.training.grpo_trainer import trainer_class
from grandrounds.training.watching import OnStep, Recorder, watcher


def train(
    model: Any,
    encoder: Encoder,
    questions: Sequence[Question],
    rewards: Sequence[Callable],
    item: GrpoItem,
    forms: Mapping[str, Form],
    seed: int,
    on_step: OnStep,
    recorder: Recorder | None = None,
    keeper: Keeper | None = None,
    compute: Compute | None = None,
) -> dict[str, Any]:
    """Train a PEFT model in place, and return what the stage's metrics report.

    `questions` stand from easy to hard where `item.order` says so. `rewards` are named functions in the order of
    `item.rewards`. Raises UserError when no question is left to train on, when a reward fails, and (Diverged) when a
    loss, gradient or reward is not finite.
    """
    from datasets import Dataset
    from transformers import PrinterCallback

    if not questions:
        raise UserError(f"grpo: {item.questions} keeps no question of {', '.join(item.modalities)}; loosen filter.keep")
    dealt = Rollouts.of(item, forms)
    keeper = keeper or checkpoints.none()
    watch = watcher(on_step)
    rows = [{"prompt": [{"role": "user", "content": each.question}], "row": i} for i, each in enumerate(questions)]
    trainer = trainer_class()(
        model=model, reward_funcs=[guarding.checked(each) for each in rewards], 
        args=_config(item, seed, keeper, compute or Compute(), dealt.spread),
        processing_class=encoder.processor, train_dataset=Dataset.from_list(rows), callbacks=[watch],
    )  # fmt: skip
    trainer.deal(encoder, questions, dealt, item, recorder or Recorder(item.watch))
    trainer.remove_callback(PrinterCallback)
    checkpoints.run(trainer, keeper, watch.take)
    if "ref" in model.peft_config:  # TRL's copy of the start, for the KL term; not to be saved with the policy
        model.delete_adapter("ref")
    return watch.summary(list(item.rewards)) | keeper.figures()


def _config(item: GrpoItem, seed: int, keeper: Keeper, compute: Compute, spread: bool) -> Any:
    import torch
    from trl import GRPOConfig

    processes = runtime.processes()
    size, how = micro_batch(item, processes), item.advantages
    return GRPOConfig(
        output_dir=".scratch/grpo", max_steps=item.steps, per_device_train_batch_size=size,
        gradient_accumulation_steps=item.accumulation, num_generations=item.group,
        steps_per_generation=item.accumulation * item.updates, num_iterations=item.iterations,
        shuffle_dataset=item.order == "shuffled",
        learning_rate=item.learning_rate, lr_scheduler_type="linear", warmup_steps=max(1, item.steps // 20),
        beta=item.beta, use_bias_correction_kl=item.kl_weighted, epsilon=item.clip, epsilon_high=item.clip_high,
        importance_sampling_level=item.ratio, loss_type=item.loss, temperature=item.temperature, top_p=1.0, top_k=0,
        max_completion_length=item.max_new_tokens, mask_truncated_completions=item.drop_truncated,
        reward_weights=weights_at(item.rewards, 0),
        scale_rewards=how.scale if isinstance(how, Grouped) else "group",
        multi_objective_aggregation="normalize_then_sum" if isinstance(how, Gdpo) else "sum_then_normalize",
        seed=seed, data_seed=seed, report_to=[], logging_steps=1, log_multimodal=False,
        **keeper.arguments(),
        disable_tqdm=True, remove_unused_columns=False, use_cpu=not torch.cuda.is_available(),
        bf16=False, dataloader_pin_memory=False, **devices.arguments(compute), **devices.rollouts(compute, spread),
        max_grad_norm=1.0, adam_beta2=0.95,
    )  # fmt: skip
