"""base: the model that everything starts from, and the teacher whose traces are distilled.

Embedded: a tiny Qwen2.5-VL-class model is trained here from nothing on `pretrain`, where each piece of knowledge has
its own frequency and reliability, so that it knows some and is shaky on some; the teacher goes on from it with `train`
and what `pretrain` states as published, every thought worked out. Hub or local: the models are fetched at a pinned
revision, or copied.
"""

import random
import shutil
from dataclasses import replace
from pathlib import Path

from grandrounds import files, forms, runtime
from grandrounds.encoding import Encoder
from grandrounds.errors import UserError
from grandrounds.params import EmbeddedModel, EmbeddedSource, HubModel, HubRevision, LocalModel, Params
from grandrounds.records import HEARSAY, Question
from grandrounds.tracking.progress import progress
from grandrounds.tracking.stage import StageRun, stage_run, task_main
from grandrounds.training import embedded, sft

WANTED = ("*.json", "*.jinja", "*.safetensors", "*.txt", "*.model")  # no pickles, no code


def main(item: str | None, params: Params) -> None:
    spec = params.base.model
    inputs = ["data/curated/pretrain.parquet", "data/curated/train.parquet", "data/curated/images"]
    with stage_run("base", item, params, inputs=inputs, outputs=["models/base", "models/teacher"]) as run:
        if isinstance(spec, EmbeddedModel):
            run.finish(build(spec, params, run))
        else:
            for name in ("base", "teacher"):
                fetch(getattr(spec, name), Path("models", name), spec)
            run.finish({"type": spec.type})


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


def fetch(source: HubRevision | Path, target: Path, spec: HubModel | LocalModel) -> None:
    """Download a pinned revision, or copy a folder: safetensors, configuration and tokenizer, never pickles or code."""
    with files.replacing(target) as folder:
        if isinstance(source, HubRevision):
            from huggingface_hub import snapshot_download

            snapshot_download(
                source.repository, revision=source.revision, allow_patterns=list(WANTED), local_dir=folder
            )
            shutil.rmtree(folder / ".cache", ignore_errors=True)
        else:
            if not source.is_dir():
                raise UserError(f"base.model: {source} is not a folder; give the path of a transformers model")
            folder.mkdir()
            for path in sorted({path for pattern in WANTED for path in source.glob(pattern)}):
                shutil.copy2(path, folder / path.name)
        if not list(folder.glob("*.safetensors")):
            raise UserError(
                f"base.model ({spec.type}): {source} has no *.safetensors; pickled weights are never loaded"
            )


if __name__ == "__main__":
    task_main("base", main, items=False)
