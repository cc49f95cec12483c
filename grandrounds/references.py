"""Names in params.yaml that point at other names: specialties, adapters, policies, arms, bounds between two keys."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from grandrounds.errors import UserError, unknown
from grandrounds.records import MODALITIES, SPECIALTIES, SPLITS

if TYPE_CHECKING:
    from grandrounds.params import GrpoItem, Params


# The domain holds these tables; a test keeps the names here equal to them, so that nothing below imports upwards.
FORMS = (
    "reasoning", "no_reasoning", "explanation", "short_form", "open_ended", "differential", "intuitive", "analytical",
    "bayesian",
)  # fmt: skip
REWARDS = ("gated_correctness", "format", "length", "accuracy", "reasoning", "repetition", "overlong")


def check(params: Params, where: str) -> None:
    """Raise UserError, with the nearest valid name, for the first name that points nowhere."""
    for problem in (_curate, _filter, _adapt, _merge, _grpo, _arms, _benchmarks):
        problem(params, where)


def folders(params: Params) -> list[str]:
    """Every model folder that the stages make."""
    return [
        "models/base",
        *(f"models/adapters/{name}" for name in params.adapt.items),
        *(f"models/merged/{name}" for name in params.merge.items),
        *(f"models/policies/{name}" for name in params.grpo.items),
    ]


def _made(params: Params, where: str, key: str, path: Path) -> None:
    if str(path) not in folders(params):
        raise UserError(f"{where}: {key}: {unknown('adapter', str(path), folders(params))}")


def _curate(params: Params, where: str) -> None:
    embedded = [name for name, source in params.curate.sources.items() if source.type == "embedded"]
    if len(embedded) > 1:
        raise UserError(f"{where}: curate.sources: {', '.join(embedded)}: only one source can be embedded; leave one")
    if not embedded and params.base.model.type in ("embedded", "grafted"):
        raise UserError(
            f"{where}: base.model: the {params.base.model.type} model learns from the embedded corpus; "
            "add a source of type embedded to curate.sources, or take a model from the hub or a folder"
        )


def _filter(params: Params, where: str) -> None:
    keep, n = params.filter.keep, params.filter.n
    if not keep.min <= keep.max <= n:
        raise UserError(
            f"{where}: filter.keep: needs min <= max <= n, but {keep.min}, {keep.max} and n = {n} were given"
        )


def _adapt(params: Params, where: str) -> None:
    for name, adapter in params.adapt.items.items():
        for specialty in adapter.specialties:
            if specialty not in SPECIALTIES:
                raise UserError(
                    f"{where}: adapt.items.{name}.specialties: {unknown('specialty', specialty, SPECIALTIES)}"
                )


def _merge(params: Params, where: str) -> None:
    for name, merge in params.merge.items.items():
        key = f"merge.items.{name}"
        for update, path in {**merge.updates, merge.beside.name: merge.beside.path}.items():
            _made(params, where, f"{key}.{update}", path)
        for update in merge.weights:
            if update not in {*merge.updates, merge.beside.name}:
                raise UserError(f"{where}: {key}.weights: {unknown('update', update, merge.updates)}")
        if merge.beside.role == "twin" and merge.beside.of not in merge.updates:
            raise UserError(f"{where}: {key}.beside.of: {unknown('update', merge.beside.of, merge.updates)}")


def _grpo(params: Params, where: str) -> None:
    for name, item in params.grpo.items.items():
        key = f"grpo.items.{name}"
        _made(params, where, f"{key}.init", item.init)
        for modality in item.modalities:
            if modality not in MODALITIES:
                raise UserError(f"{where}: {key}.modalities: {unknown('modality', modality, MODALITIES)}")
        for what, names, valid in (("prompt form", item.prompts, FORMS), ("reward", item.rewards, REWARDS)):
            for given in names:
                if given not in valid:
                    raise UserError(f"{where}: {key}: {unknown(what, given, valid)}")
        if item.advantages.type == "gba" and item.group % len(item.advantages.guidelines):
            count = len(item.advantages.guidelines)
            raise UserError(
                f"{where}: {key}.group: {item.group} rollouts cannot be dealt to {count} guidelines; "
                f"use a multiple of {count}"
            )
        _divides(item, f"{where}: {key}")
        if item.order == "easy_to_hard" and item.questions.parts[:2] != ("data", "filtered"):
            raise UserError(
                f"{where}: {key}.order: easy_to_hard needs pass counts, which {item.questions} has not; "
                "give questions: data/filtered/<modality>.parquet, or order: shuffled"
            )


def _divides(item: GrpoItem, key: str) -> None:
    rollouts = item.group * item.questions_per_step
    if rollouts % item.accumulation:
        fits = [str(n) for n in range(1, 2 * item.accumulation + 1) if rollouts % n == 0]
        raise UserError(
            f"{key}.accumulation: the {rollouts} rollouts of a step (group {item.group} x questions_per_step "
            f"{item.questions_per_step}) cannot be divided into {item.accumulation}; use {' or '.join(fits[-3:])}"
        )


def _arms(params: Params, where: str) -> None:
    for name, arm in params.predict.arms.items():
        _made(params, where, f"predict.arms.{name}.adapter", arm.adapter)
    for name in params.judge.baselines:
        if name not in params.predict.arms:
            raise UserError(f"{where}: judge.baselines: {unknown('arm', name, params.predict.arms)}")


def _benchmarks(params: Params, where: str) -> None:
    taken = {*SPLITS, "macro", "images", "index"}
    for name in params.benchmarks:
        key = f"{where}: benchmarks.{name}"
        if name in taken:
            raise UserError(f"{key}: '{name}' is a name of the pipeline's own; give the benchmark another one")
        if name in params.curate.sources:
            raise UserError(f"{key}: curate.sources has that name too; give the benchmark another one")
        if name.endswith(("_no_reasoning", "_text_only", "_sampled")):
            raise UserError(f"{key}: its end names a prompt in the figures; give the benchmark another name")
