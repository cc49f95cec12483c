"""base: the model that everything starts from, and the teacher whose traces are distilled.

Embedded: a tiny Qwen2.5-VL-class model is trained here from nothing on `pretrain`, where each piece of knowledge has
its own frequency and reliability, so that it knows some and is shaky on some; the teacher goes on from it with `train`
and what `pretrain` states as published, every thought worked out. Grafted: SmolLM2's weights from a package, with a
vision tower that is trained here. Hub or local: the models are fetched at a pinned revision, or copied.
"""

import random
from dataclasses import replace
from pathlib import Path

from grandrounds import files, forms, runtime
from grandrounds.encoding import Encoder
from grandrounds.params import EmbeddedModel, EmbeddedSource, GraftedModel, Params
from grandrounds.records import HEARSAY, Question
from grandrounds.tracking.progress import progress
from grandrounds.tracking.stage import StageRun, stage_run, task_main
from grandrounds.training import embedded, grafted, pretrained, sft


def main(item: str | None, params: Params) -> None:
    spec = params.base.model
    inputs = ["data/curated/pretrain.parquet", "data/curated/train.parquet", "data/curated/images"]
    with stage_run("base", item, params, inputs=inputs, outputs=["models/base", "models/teacher"]) as run:
        if isinstance(spec, EmbeddedModel):
            run.finish(build(spec, params, run))
        elif isinstance(spec, GraftedModel):
            run.finish(graft(spec, params, run))
        else:
            run.finish(pretrained.fetch(spec))


def build(spec: EmbeddedModel, params: Params, run: StageRun) -> dict:
    """Train base and teacher; returns the stage's metrics."""
    runtime.use_deterministic()
    known = files.read("data/curated/pretrain.parquet", Question)
    train = files.read("data/curated/train.parquet", Question)
    asked = forms.read(params.prompts)
    source = params.curate.embedded or EmbeddedSource()
    made = embedded.processor(spec, embedded.corpus(known, asked), source.image_size)
    model = embedded.prepare(embedded.model(spec, made, params.seed))
    encoder = Encoder(made)
    metrics: dict = {"parameters": sum(p.numel() for p in model.parameters()), "vocabulary": len(made.tokenizer)}
    sound = [question for question in known if question.source != HEARSAY]
    random.Random(params.seed).shuffle(sound)
    schedule = sft.Schedule(spec.steps, spec.batch, spec.learning_rate, 0.05, vision_rate=spec.vision_rate)
    later = replace(schedule, steps=spec.teacher_steps, learning_rate=spec.teacher_learning_rate)
    stages = (
        ("base", known, schedule, 0),
        ("teacher", sound[: spec.teacher_rehearsal] + train * spec.teacher_emphasis, later, spec.steps),
    )
    for name, questions, schedule, before in stages:
        seed = runtime.derive_seed(params.seed, "base", name)
        examples = embedded.examples(questions, asked, seed, worked=name == "teacher")
        with progress(schedule.steps, name) as advance:

            def on_step(step: int, figures: dict, before: int = before, advance=advance) -> None:
                run.curve(before + step, **figures)
                advance(1, loss=figures["loss"])

            metrics[name] = sft.train(model, encoder, examples, schedule, seed, on_step)
        with files.replacing(Path("models", name)) as folder:
            embedded.save(folder, model, made)
    return metrics


def graft(spec: GraftedModel, params: Params, run: StageRun) -> dict:
    """SmolLM2 with a vision tower trained on `pretrain`'s pictures, while the language model stays as it is."""
    runtime.use_deterministic()
    source = params.curate.embedded or EmbeddedSource()
    model, made = grafted.smollm2(source.image_size, params.seed, spec.vision_hidden, spec.vision_layers)
    embedded.prepare(model).model.language_model.requires_grad_(False)
    asked = forms.read(params.prompts)
    pictured = [each for each in files.read("data/curated/pretrain.parquet", Question) if each.image]
    seed = runtime.derive_seed(params.seed, "base", "grafted")
    schedule = sft.Schedule(spec.steps, spec.batch, spec.learning_rate, 0.05)
    with progress(schedule.steps, "vision tower") as advance:

        def on_step(step: int, figures: dict) -> None:
            run.curve(step, **figures)
            advance(1, loss=figures["loss"])

        metrics = sft.train(model, Encoder(made), embedded.examples(pictured, asked, seed), schedule, seed, on_step)
    for name in ("base", "teacher"):
        with files.replacing(Path("models", name)) as folder:
            embedded.save(folder, model.requires_grad_(True), made)
    trained = sum(p.numel() for p in model.model.visual.parameters())
    return {"parameters": sum(p.numel() for p in model.parameters()), "vision_parameters": trained, "base": metrics}


if __name__ == "__main__":
    task_main("base", main, items=False)
