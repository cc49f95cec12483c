"""adapt <name>: a LoRA adapter by supervised fine-tuning on the traces of some specialties.

The four specialists are MMedExpert-R1's domain-specific adaptation; the generalist, on all of them, is the SFT
baseline of all three papers. LoRA r = 8, alpha = 16 on q, k, v, o of the language model (RARL, paper); the vision tower
is frozen, and the loss is on the assistant's turn only.
"""

import random

from grandrounds import files, forms, models, runtime
from grandrounds.domain import prompts
from grandrounds.encoding import Encoder
from grandrounds.params import Adapter, Params
from grandrounds.records import Question, Trace
from grandrounds.tracking import lock
from grandrounds.tracking.progress import progress
from grandrounds.tracking.stage import stage_run, task_main
from grandrounds.training import adapter as adapters
from grandrounds.training import checkpoints, sft, validation

VAL = "data/curated/val.parquet"
QUESTIONS, IMAGES, BASE, TRACES = (
    "data/curated/train.parquet", "data/curated/images", "models/base", "data/traces.parquet",
)  # fmt: skip


def main(item: str, params: Params) -> None:
    settings, adapter = params.adapt.training, params.adapt.items[item]
    output = f"models/adapters/{item}"
    with stage_run("adapt", item, params, inputs=[TRACES, QUESTIONS, VAL, IMAGES, BASE], outputs=[output]) as run:
        runtime.use_deterministic()
        # every specialist starts from the same LoRA A, so that their updates can be compared; a twin has its own
        seed = runtime.derive_seed(params.seed + adapter.seed_offset, "adapt")
        questions = {each.id: each for each in files.read(QUESTIONS, Question)}
        asked = prompts.form("reasoning", forms.read(params.prompts))
        traces = mixed(files.read(TRACES, Trace), adapter, seed)
        examples = [sft.Example(questions[trace.question_id], asked, trace.target) for trace in traces]
        model, processor = models.load(
            BASE, runtime.loading_device(params), params.compute.precision, params.compute.attention
        )
        runtime.seed_everything(seed)
        full = settings.method == "full"
        model = adapters.unfreeze_language(model) if full else adapters.attach(model, settings.lora)
        schedule = sft.Schedule(
            settings.steps, settings.batch, settings.learning_rate, settings.warmup, settings.weight_decay,
            accumulation=settings.accumulation, packing=settings.packing, whole_turns=not settings.assistant_only,
        )  # fmt: skip
        encoder = Encoder(processor)
        val = files.read(VAL, Question)
        keeping = checkpoints.keeping(
            "adapt", item, run.identity, settings.checkpoints, lock.digest(BASE).md5,
            score=validation.scorer(encoder, val, asked, settings.checkpoints, params.seed),
            on_checkpoint=checkpoints.logged(run.checkpoint, None if full else adapters.save),
        )  # fmt: skip
        with keeping as keeper, progress(settings.steps, f"sft, {item}") as advance:

            def on_step(step: int, figures: dict) -> None:
                run.curve(step, **figures)
                advance(1, loss=figures["loss"])

            figures = sft.train(model, encoder, examples, schedule, seed, on_step, keeper, params.compute)
            if full:
                adapters.save_whole(model, processor, output)
            else:
                adapters.save(model, output)
        trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
        run.finish({"questions": len(examples), "steps": settings.steps, "trainable_parameters": trainable, **figures})


def mixed(traces: list[Trace], adapter: Adapter, seed: int) -> list[Trace]:
    """The traces of an adapter's specialties, and of the others as many as make up its share of general data.

    Where the others have fewer, all of them. Drawn at random, the same for a seed.
    """
    own = [each for each in traces if each.specialty in adapter.specialties]
    others = [each for each in traces if each.specialty not in adapter.specialties]
    wanted = round(len(own) * adapter.general / (1 - adapter.general))
    drawn = random.Random(f"{seed}/general").sample(range(len(others)), min(wanted, len(others)))
    return own + [others[i] for i in sorted(drawn)]


if __name__ == "__main__":
    task_main("adapt", main, items=True)
