"""What is logged of each step of a reinforcement, and what its metrics say at the end."""

from collections.abc import Callable, Mapping
from typing import Any

from grandrounds.errors import UserError

OnStep = Callable[[int, dict[str, float]], None]

# TRL's name -> ours in curves.csv
LOGGED = {
    "loss": "loss", "reward": "reward", "reward_std": "reward_std", "kl": "kl", "entropy": "entropy",
    "completions/mean_length": "completion_length", "frac_reward_zero_std": "zero_variance_share",
    "clip_ratio/region_mean": "clip_fraction", "grad_norm": "grad_norm",
}  # fmt: skip


def watcher(on_step: OnStep) -> Any:
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
