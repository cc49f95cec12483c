"""Supervised fine-tuning on assistant turns, thin on TRL's SFTTrainer: full weights or LoRA, loss on the turn only."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from grandrounds import runtime
from grandrounds.domain.prompts import Form
from grandrounds.encoding import Encoder, collate
from grandrounds.errors import UserError
from grandrounds.params import Compute
from grandrounds.records import Question
from grandrounds.training import checkpoints, devices, packing
from grandrounds.training.checkpoints import Keeper


@dataclass(frozen=True, slots=True)
class Example:
    """One turn to learn: the question under a prompt form, and the whole assistant's turn (prefill included)."""

    question: Question
    form: Form
    target: str


@dataclass(frozen=True)
class Schedule:
    steps: int
    batch: int
    learning_rate: float
    warmup: float  # fraction of the steps
    weight_decay: float = 0.0
    vision_rate: float = 1.0  # learning rate of the vision tower, as a multiple of the rest's
    accumulation: int = 1  # micro-batches into which a batch is divided, for memory
    packing: int = 0  # tokens of a row in which several examples stand; 0: one example a row
    whole_turns: bool = False  # learn the prompts too


OnStep = Callable[[int, dict[str, float]], None]


def train(
    model: Any,
    encoder: Encoder,
    examples: Sequence[Example],
    schedule: Schedule,
    seed: int,
    on_step: OnStep,
    keeper: Keeper | None = None,
    compute: Compute | None = None,
) -> dict[str, Any]:
    """Train in place, and return {loss_first, loss_last, token_accuracy} over the first and last tenth of the steps.

    `model` is a transformers model, or a PEFT model whose base stays frozen. Cosine schedule, AdamW (0.9, 0.95) and
    gradient clipping at 1, as in MedVLThinker's public code. With a keeper, checkpoints are kept and gone on from.
    Raises UserError when there is nothing to train on, or when the loss is not finite.
    """
    import torch
    from transformers import PrinterCallback
    from trl import SFTConfig

    keeper = keeper or checkpoints.none()
    if not examples:
        raise UserError("adapt: no example to train on: data/traces.parquet has none for these specialties")
    data, batches = _data(model, encoder, examples, schedule)
    config = SFTConfig(
        output_dir=".scratch/sft", max_steps=schedule.steps,
        per_device_train_batch_size=devices.rows(schedule.batch, schedule.accumulation, runtime.processes()),
        gradient_accumulation_steps=schedule.accumulation,
        lr_scheduler_type="cosine", warmup_steps=round(schedule.warmup * schedule.steps), max_grad_norm=1.0,
        seed=seed, data_seed=seed, report_to=[], logging_steps=1, logging_nan_inf_filter=False, **keeper.arguments(),
        disable_tqdm=True, remove_unused_columns=False, dataset_kwargs={"skip_prepare_dataset": True},
        max_length=None, use_cpu=not torch.cuda.is_available(), bf16=model.dtype == torch.bfloat16,
        dataloader_pin_memory=False, **devices.arguments(compute or Compute()),
    )  # fmt: skip
    watcher = _watcher(on_step, [each.question.id for each in examples])
    trainer = _trainer_class()(
        model=model, args=config, train_dataset=data, data_collator=batches,
        processing_class=encoder.processor, callbacks=[watcher], optimizers=(optimizer(model, schedule), None),
    )  # fmt: skip
    trainer.watcher = watcher
    # the mean is over the tokens of a whole step, however it is divided; the vision-language classes leave that out
    trainer.model_accepts_loss_kwargs = True
    trainer.remove_callback(PrinterCallback)
    checkpoints.run(trainer, keeper, watcher.take)
    return watcher.summary() | keeper.figures()


def _data(model: Any, encoder: Encoder, examples: Sequence[Example], schedule: Schedule) -> tuple[Any, Callable]:
    """The rows to draw from, and how some of them become a batch."""
    import torch
    from datasets import Dataset

    prompts = [encoder.prompt(each.question, each.form) for each in examples]
    turns = [encoder.completion(each.target.removeprefix(each.form.prefill)) for each in examples]
    rows = [[index] for index in range(len(examples))]
    if schedule.packing:
        packing.check(model)
        rows = packing.bins([len(p.ids) + len(t) for p, t in zip(prompts, turns, strict=True)], schedule.packing)

    def batches(drawn: list[dict]) -> dict:
        taken = [each["examples"] for each in drawn]
        at = [index for row in taken for index in row]
        if schedule.packing:
            packed = [[(prompts[i], turns[i]) for i in row] for row in taken]
            batch = packing.collate(model, encoder, packed, schedule.whole_turns)
        else:
            batch = collate(encoder, [prompts[i] for i in at], [turns[i] for i in at])
            if schedule.whole_turns:
                unlearned = (batch["attention_mask"] == 0) | (batch["mm_token_type_ids"] != 0)
                batch["labels"] = batch["input_ids"].masked_fill(unlearned, -100)
        return batch | {"rows": torch.tensor(at)}

    # TRL wants to see input_ids, and reads none of them
    ids = [[token for i in row for token in prompts[i].ids] for row in rows]
    return Dataset.from_dict({"examples": rows, "input_ids": ids}), batches


def _trainer_class() -> type:
    """SFTTrainer with a loss for the CPU. Built here, as importing TRL takes seconds."""
    import torch
    from trl import SFTTrainer

    class TurnTrainer(checkpoints.Resumable, SFTTrainer):
        def compute_loss(
            self, model: Any, inputs: dict, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            """The same mean over the turns' tokens as TRL's. On a CPU TRL scores the prompts' tokens too and throws
            them away, and makes every score twice: a seventh of the embedded base's training.
            """
            self.watcher.rows += inputs.pop("rows").tolist()
            if self.accelerator.num_processes > 1 or model.device.type != "cpu" or return_outputs:
                return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
            whole = model.get_base_model() if hasattr(model, "get_base_model") else model
            labels = inputs["labels"][:, 1:]
            taught = labels != -100
            read = {name: value for name, value in inputs.items() if name != "labels"}
            hidden = whole.base_model(**read, use_cache=False).last_hidden_state[:, :-1]
            scores, targets = whole.get_output_embeddings()(hidden[taught]), labels[taught]
            right = (scores.argmax(-1) == targets).float().mean()
            self._metrics["train" if model.training else "eval"]["mean_token_accuracy"].append(right.item())
            total = torch.nn.functional.cross_entropy(scores.float(), targets, reduction="sum")
            return total / (len(targets) if num_items_in_batch is None else num_items_in_batch)

    return TurnTrainer


def optimizer(model: Any, schedule: Schedule) -> Any:
    """AdamW over what is not frozen; the vision tower has a learning rate of its own, norms and biases do not decay."""
    import torch

    groups: dict[tuple[float, float], list[Any]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            rate = schedule.vision_rate if "visual" in name.split(".") else 1.0
            decay = schedule.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((schedule.learning_rate * rate, decay), []).append(parameter)
    rows = [{"params": each, "lr": rate, "weight_decay": decay} for (rate, decay), each in groups.items()]
    return torch.optim.AdamW(rows, betas=(0.9, 0.95), fused=True)


def _watcher(on_step: OnStep, names: Sequence[str]) -> Any:
    """A callback that hands each step's figures on, and stops at a loss that is not finite."""
    import math

    from transformers import TrainerCallback

    class Watcher(TrainerCallback):
        def __init__(self) -> None:
            self.seen: list[dict[str, float]] = []
            self.rows: list[int] = []  # of the step that is being taken

        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.rows = []

        def on_log(self, args: Any, state: Any, control: Any, logs: dict | None = None, **_: Any) -> None:
            if logs and "loss" in logs:
                self.take(state.global_step, logs)

        def take(self, step: int, logs: Mapping[str, float]) -> None:
            for name, words in (("loss", "loss"), ("grad_norm", "gradient's norm")):
                if not math.isfinite(logs[name]):
                    asked = ", ".join(names[row] for row in self.rows)
                    raise UserError(
                        f"step {step}: the {words} is {logs[name]}, on questions {asked}; lower the learning rate"
                    )
            self.seen.append({"loss": logs["loss"], "token_accuracy": logs.get("mean_token_accuracy", float("nan"))})
            on_step(step, self.seen[-1])

        def summary(self) -> dict[str, float]:
            tenth = max(1, len(self.seen) // 10)
            first, last = self.seen[:tenth], self.seen[-tenth:]
            return {
                "loss_first": sum(s["loss"] for s in first) / tenth,
                "loss_last": sum(s["loss"] for s in last) / tenth,
                "token_accuracy": sum(s["token_accuracy"] for s in last) / tenth,
            }

    return Watcher()
