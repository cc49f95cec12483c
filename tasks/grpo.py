"""grpo <system>: reinforcement with verifiable rewards, under one system's settings.

medvlthinker: gated correctness on difficulty-filtered text. rarl: format, length, accuracy and reasoning rewards, three
prompt styles, the whole train split. mmedexpert: guideline-based advantages over four guideline prompts, from the
merged specialists, which are folded into the base first. The policy is saved relative to the base: what it started from
and its own LoRA, concatenated exactly.
"""

from pathlib import Path
from typing import Any

from grandrounds import files, forms, lora, models, runtime
from grandrounds.domain import prompts, rewards
from grandrounds.domain.adapters import concatenate
from grandrounds.domain.difficulty import easy_to_hard
from grandrounds.encoding import Encoder
from grandrounds.engines.bertscore import BertScorer
from grandrounds.params import GrpoItem, Params
from grandrounds.records import Difficulty, Question
from grandrounds.tracking import lock
from grandrounds.tracking.progress import progress
from grandrounds.tracking.stage import stage_run, task_main
from grandrounds.training import adapter, checkpoints, grpo, validation
from grandrounds.training.watching import Recorder

VAL = "data/curated/val.parquet"
QUESTIONS, IMAGES, BASE = "data/curated/train.parquet", "data/curated/images", "models/base"


def main(item: str, params: Params) -> None:
    settings = params.grpo.items[item]
    output = f"models/policies/{item}"
    inputs = list(dict.fromkeys([QUESTIONS, VAL, IMAGES, BASE, str(settings.questions), str(settings.init)]))
    with stage_run("grpo", item, params, inputs=inputs, outputs=[output]) as run:
        runtime.use_deterministic()
        questions = chosen(settings)
        scorer = BertScorer() if rewards.NEEDS_SCORER & settings.rewards.keys() else None
        recorder = Recorder(settings.watch, Path(".scratch/rollouts", run.identity))
        functions, _ = rewards.build(settings.rewards, scorer, limit=settings.max_new_tokens)
        model, processor = models.load(
            BASE, runtime.loading_device(params), params.compute.precision, params.compute.attention
        )
        start = None if str(settings.init) == BASE else lora.load_update(settings.init)
        if start is not None:
            lora.fold(model, start, str(settings.init))
        seed = runtime.derive_seed(params.seed + settings.seed_offset, "grpo", item)
        runtime.seed_everything(seed)
        model = adapter.attach(model, settings.lora)

        def save(policy: Any, folder: str | Path) -> None:
            adapter.save(policy, folder)
            if start is not None and runtime.first():
                lora.save_update(folder, concatenate(start, lora.load_update(folder)))

        encoder, asked = Encoder(processor), forms.read(params.prompts)
        plain = prompts.form("reasoning", asked)
        keeping = checkpoints.keeping(
            "grpo", item, run.identity, settings.checkpoints,
            " + ".join(lock.digest(path).md5 for path in dict.fromkeys([BASE, str(settings.init)])),
            score=validation.scorer(encoder, files.read(VAL, Question), plain, settings.checkpoints, params.seed),
            on_checkpoint=checkpoints.logged(run.checkpoint, save),
        )  # fmt: skip
        with keeping as keeper, progress(settings.steps, f"grpo, {item}") as advance:

            def on_step(step: int, figures: dict) -> None:
                run.curve(step, **figures)
                advance(1, **{name: figures[name] for name in ("reward",) if name in figures})

            figures = grpo.train(
                model, encoder, questions, functions, settings, asked, seed, on_step, recorder, keeper, params.compute
            )
            save(model, output)
        if runtime.first():
            recorder.finish(run.folder)
        run.finish({"questions": len(questions), "steps": settings.steps, **figures})


def chosen(settings: GrpoItem) -> list[Question]:
    """The questions to train on: a whole split, or what a filter kept of it; of the system's modalities.

    From easy to hard where the settings say so. Counts that stopped early stand at what they lead one to expect, never
    as if they were complete.
    """
    questions = files.read(QUESTIONS, Question)
    if str(settings.questions) != QUESTIONS:
        kept = [row for row in files.read(settings.questions, Difficulty) if row.kept]
        place = {row.question_id: i for i, row in enumerate(easy_to_hard(kept))}
        questions = [each for each in questions if each.id in place]
        if settings.order == "easy_to_hard":
            questions.sort(key=lambda each: place[each.id])
    return [each for each in questions if each.modality in settings.modalities]


if __name__ == "__main__":
    task_main("grpo", main, items=True)
