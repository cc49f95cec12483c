"""What is logged of each step of a reinforcement, what is kept of some, and what its metrics say at the end."""

import csv
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grandrounds import files
from grandrounds.domain.prompts import Form
from grandrounds.errors import UserError
from grandrounds.params import Watch
from grandrounds.records import Question, Sample

OnStep = Callable[[int, dict[str, float]], None]

# TRL's name -> ours in curves.csv
LOGGED = {
    "loss": "loss", "reward": "reward", "reward_std": "reward_std", "kl": "kl", "entropy": "entropy",
    "completions/mean_length": "completion_length", "frac_reward_zero_std": "zero_variance_share",
    "clip_ratio/region_mean": "clip_fraction", "clip_ratio/low_mean": "clip_low", "clip_ratio/high_mean": "clip_high",
    "completions/clipped_ratio": "truncated_share", "resampled": "resampled", "grad_norm": "grad_norm",
}  # fmt: skip


@dataclass(frozen=True)
class Recorder:
    """Samples and histograms of every few steps' rollouts.

    Each step's are written into `folder` at once, so that a training that was killed and goes on has them all;
    :meth:`finish` gathers them. Without a folder nothing is kept.
    """

    settings: Watch
    folder: Path | None = None

    def wants(self, step: int, span: int) -> bool:
        """Whether the rollouts that serve `span` steps from `step` on are kept: the first's, and every `every`th's."""
        every = self.settings.every
        return self.folder is not None and every > 0 and (step == 1 or (step + span - 1) // every > (step - 1) // every)

    def take(
        self, step: int, asked: Sequence[tuple[Question, Form]], texts: Sequence[str],
        lengths: Sequence[int], names: Sequence[str], scores: Any, weights: Any, advantages: Any,
    ) -> None:  # fmt: skip
        """One batch of rollouts: their completions, tokens, rewards [B, R] by name, weights [R] and advantages [B]."""
        assert self.folder is not None, "asked for by `wants` alone"
        totals = (scores.nan_to_num(0.0) * weights.to(scores)).sum(dim=1).tolist()
        columns = {"reward": totals, "completion_length": list(map(float, lengths))}
        columns |= {f"rewards/{name}": scores[:, i].tolist() for i, name in enumerate(names)}
        stride = max(1, len(texts) // self.settings.completions)
        samples = [
            Sample(
                step=step, question_id=asked[i][0].id, instruction=asked[i][1].instruction,
                completion=asked[i][1].prefill + texts[i], tokens=lengths[i], advantage=float(advantages[i]),
                reward=totals[i], rewards=list(names), scores=[_number(each) for each in scores[i].tolist()],
            )
            for i in range(0, len(texts), stride)
        ][: self.settings.completions]  # fmt: skip
        rows = [row for name, values in columns.items() for row in histogram(step, name, values, self.settings.bins)]
        files.write_json(self.folder / f"{step:08d}.json", {"samples": samples, "histograms": rows})

    def finish(self, output: Path) -> None:
        """Write completions.parquet and histograms.csv into `output`, and remove the folder."""
        kept = [files.read_json(path) for path in sorted(self.folder.glob("*.json"))] if self.folder else []
        files.write(output / "completions.parquet", [Sample(**row) for each in kept for row in each["samples"]], Sample)
        with files.replacing(output / "histograms.csv") as temporary, temporary.open("w", newline="") as file:
            table = csv.DictWriter(file, ("step", "name", "low", "high", "count"), lineterminator="\n")
            table.writeheader()
            table.writerows(row for each in kept for row in each["histograms"])
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)


def histogram(step: int, name: str, values: Sequence[float], bins: int) -> list[dict[str, Any]]:
    """Counts of the values that are there in bins of equal width from the least to the greatest."""
    import numpy as np

    there = [value for value in values if math.isfinite(value)]
    if not there:
        return []
    counts, edges = np.histogram(there, bins)
    return [
        {"step": step, "name": name, "low": low, "high": high, "count": count}
        for low, high, count in zip(edges[:-1].tolist(), edges[1:].tolist(), counts.tolist(), strict=True)
    ]


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def watcher(on_step: OnStep) -> Any:
    """A callback that hands each step's figures on under our names, and stops at a loss that is not finite."""
    from transformers import TrainerCallback

    class Watcher(TrainerCallback):
        def __init__(self) -> None:
            self.seen: list[dict[str, float]] = []

        def on_log(self, args: Any, state: Any, control: Any, logs: dict | None = None, **_: Any) -> None:
            if not logs or "loss" not in logs:  # rewards stand in those steps alone that drew rollouts
                return
            self.take(state.global_step, logs)

        def take(self, step: int, logs: Mapping[str, Any]) -> None:
            there = {name: value for name, value in logs.items() if value is not None}  # None: TRL's word for NaN
            figures = {LOGGED[name]: float(value) for name, value in there.items() if name in LOGGED}
            for name, value in there.items():
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
