"""Checkpoints that a killed training goes on from, to the bit, and of which the best is kept.

A checkpoint is a folder, written whole or not at all: the trained weights, the optimizer's moments and the random
generators' states as safetensors, everything else as JSON. transformers' own checkpoints pickle the last two, and a
pickle is never loaded here; of its resuming we use the rest: counters, history and the sampler's place.
"""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from grandrounds import files, runtime
from grandrounds.errors import UserError
from grandrounds.params import Checkpoints
from grandrounds.training import states

FOLDER = Path(".scratch/checkpoints")
OUTBOX = Path(".scratch/outbox")  # what is being logged
TRAINER = "trainer_state.json"  # transformers reads it under this name
WEIGHTS, STATE = "weights.safetensors", "state.json"


@dataclass(frozen=True)
class Score:
    """What the validation questions say of a checkpoint; `reasoning` is None where no question has key facts."""

    step: int
    accuracy: float
    reasoning: float | None
    tokens: float  # mean length of a completion

    def by(self, settings: Checkpoints) -> float:
        """The figure that the rule compares; below every score where the completions are too long."""
        value = self.reasoning if settings.rule == "reasoning" else self.accuracy
        too_long = settings.tokens is not None and self.tokens > settings.tokens
        return float("-inf") if value is None or too_long else value


def best(scores: list[Score], settings: Checkpoints) -> Score | None:
    """The first of the highest by the rule; None where no checkpoint meets it."""
    meeting = [each for each in scores if each.by(settings) > float("-inf")]
    return max(meeting, key=lambda each: each.by(settings), default=None)


def stale(scores: list[Score], settings: Checkpoints) -> bool:
    """Whether the last `patience` checkpoints brought nothing better."""
    found = best(scores, settings)
    since = len(scores) if found is None else len(scores) - 1 - scores.index(found)
    return 0 < settings.patience <= since


def _ignore(*_: Any) -> None:
    pass


@dataclass
class Keeper:
    """The checkpoints of one training.

    `score(model, step)` asks the validation questions. `on_checkpoint(score or None, step, model)` is told of each once
    it is on disk; on resuming, of those before with None for the model.
    """

    folder: Path
    settings: Checkpoints
    base: str  # what the weights are relative to: a checkpoint from another base is refused
    score: Callable[[Any, int], Score] | None = None
    on_checkpoint: Callable[[Score | None, int, Any], None] = _ignore
    scores: list[Score] = field(default_factory=list)
    history: list[dict[str, float]] = field(default_factory=list)  # what was logged until the checkpoint resumed from
    resumed: Path | None = None
    epochs: int = 0  # whole passes over the data until then
    stopped: bool = False  # by patience

    def open(self) -> None:
        """Find the checkpoint to go on from. Raises UserError for one that was trained on another base."""
        for path in reversed(_checkpoints(self.folder)):
            state = files.read_json(path / STATE)
            if state["base"] != self.base:
                raise UserError(
                    f"{path}: was trained from base {state['base']}, but the base now is {self.base}; "
                    f"bring that base back (dvc checkout), or remove {self.folder} to train from this one"
                )
            self.resumed = path
            self.scores = [Score(**each) for each in state["scores"]]
            self.stopped = stale(self.scores, self.settings)
            self.history, self.epochs = state["history"], int(state["epoch"])
            by_step = {each.step: each for each in self.scores}
            for step in state["steps"]:
                self.on_checkpoint(by_step.get(step), step, None)
            return

    @property
    def step(self) -> int:
        """The step that was resumed from; 0 at the beginning."""
        return _step(self.resumed) if self.resumed else 0

    def steps(self, now: int) -> list[int]:
        """Steps of all checkpoints until now."""
        return [*range(self.settings.every, now, self.settings.every), now]

    def arguments(self) -> dict[str, Any]:
        """The part of TrainingArguments that says when to save."""
        if not self.settings.every:
            return {"save_strategy": "no"}
        return {"save_strategy": "steps", "save_steps": self.settings.every}

    def prune(self, now: int) -> None:
        """Keep the newest checkpoint, to resume from, and the best."""
        found = best(self.scores, self.settings)
        keep = {now} | ({found.step} if found and self.settings.keep == "best" else set())
        for path in _checkpoints(self.folder):
            if _step(path) not in keep:
                shutil.rmtree(path)

    def kept(self) -> Path | None:
        """The checkpoint whose weights are the result, where those are not the last ones."""
        found = best(self.scores, self.settings) if self.settings.keep == "best" else None
        if self.settings.keep == "best" and found is None:
            raise UserError(
                f"checkpoints: none of {len(self.scores)} meets the rule ({self.settings.rule}, completions of "
                f"{self.settings.tokens} tokens at most); raise checkpoints.tokens or set keep: last"
            )
        return self.folder / f"step-{found.step:06d}" if found else None

    def figures(self) -> dict[str, Any]:
        """For the stage's metrics: every score, and the step whose weights were kept."""
        if not self.settings.every:
            return {}
        kept = self.kept()
        rows = {f"step_{each.step:06d}": asdict(each) for each in self.scores}
        return {"checkpoints": rows | ({"kept": _step(kept)} if kept else {})}


def none() -> Keeper:
    """No checkpoints: the training of the embedded base, and tests."""
    return Keeper(FOLDER, Checkpoints(), "")


def logged(log: Callable[..., None], save: Callable[[Any, Path], None] | None) -> Callable[..., None]:
    """An `on_checkpoint` that logs each with its scores, and with the adapter that `save(model, folder)` writes.

    Without `save` (full weights) only the scores are logged.
    """

    def on_checkpoint(score: Score | None, step: int, model: Any) -> None:
        folder = None
        if save and model is not None:
            OUTBOX.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(dir=OUTBOX)) / "adapter" if runtime.first() else OUTBOX / "none"
            save(model, folder)
        figures = {} if score is None else {name: value for name, value in asdict(score).items() if name != "step"}
        log(step, figures, folder)

    return on_checkpoint


@contextmanager
def keeping(
    stage: str,
    item: str,
    identity: str,
    settings: Checkpoints,
    base: str,
    score: Callable[[Any, int], Score] | None = None,
    on_checkpoint: Callable[[Score | None, int, Any], None] = _ignore,
) -> Iterator[Keeper]:
    """The checkpoints of a stage under an identity (params, inputs, code); removed when the block ends well.

    Those of other identities stay until then, and are not gone on from. An error keeps all, and says where.
    """
    place = FOLDER / f"{stage}@{item}"
    keeper = Keeper(place / identity, settings, base, score, on_checkpoint)
    try:
        keeper.open()
        if keeper.resumed and runtime.first():
            print(f"  going on from step {keeper.step} ({keeper.resumed})", flush=True)
        yield keeper
    except UserError as error:
        found = _checkpoints(keeper.folder)
        raise (UserError(f"{error}; the last good checkpoint is {found[-1]}") if found else error) from error
    if runtime.first():
        shutil.rmtree(place, ignore_errors=True)


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"))


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def run(trainer: Any, keeper: Keeper, replay: Callable[[int, Mapping[str, float]], None]) -> None:
    """Train to the end from where the keeper is, and leave the weights to be kept in the model.

    What was logged before goes to `replay(step, logs)` first, so that a resumed run's curves are whole.
    """
    trainer.keep(keeper)
    for each in keeper.history:
        replay(int(each["step"]), each)
    done = keeper.stopped or keeper.step >= trainer.args.max_steps
    if done:
        assert keeper.resumed
        states.load_weights(trainer.model, keeper.resumed / WEIGHTS, trainer.is_fsdp_enabled)
    else:
        trainer.train(resume_from_checkpoint=str(keeper.resumed) if keeper.resumed else None)
    if kept := keeper.kept():
        states.load_weights(trainer.model, kept / WEIGHTS, trainer.is_fsdp_enabled)
    trainer.accelerator.wait_for_everyone()  # the first will remove what the others are reading


class Resumable:
    """Mixed into a transformers Trainer, before it: how it saves and loads, in our format. :meth:`keep` comes first."""

    def keep(self: Any, keeper: Keeper) -> None:
        self._keeper = keeper

    def _get_train_sampler(self: Any, *given: Any) -> Any:
        """TRL's sampler draws each epoch's order from one generator, which here catches up."""
        sampler = super()._get_train_sampler(*given)  # type: ignore[misc]
        if getattr(sampler, "generator", None) is not None:
            for _ in range(self._keeper.epochs):
                next(iter(sampler))
        return sampler

    def _save_checkpoint(self: Any, model: Any, trial: Any) -> None:
        """Score, save and prune. The score comes first, so that one rename makes both."""
        keeper, step = self._keeper, self.state.global_step
        if keeper.score:
            score = keeper.score(self.accelerator.unwrap_model(model), step)
            keeper.scores.append(score)
        random = states.gather_random(self.accelerator)
        tensors, optimizer = states.optimizer_state(self.model, self.optimizer, self.is_fsdp_enabled)
        weights = states.weights(self.model, self.is_fsdp_enabled)
        if self.accelerator.is_main_process:
            body = {
                "base": keeper.base,
                "steps": keeper.steps(step),
                "scores": [asdict(each) for each in keeper.scores],
                "optimizer": optimizer,
                "scheduler": self.lr_scheduler.state_dict(),
                "epoch": self.state.epoch,
                "history": self.state.log_history,  # transformers sorts its figures by name, and curves.csv does not
            }
            with files.replacing(keeper.folder / f"step-{step:06d}") as folder:
                folder.mkdir()
                states.save(folder / WEIGHTS, weights)
                states.save(folder / "optimizer.safetensors", tensors)
                states.save_random(folder, random)
                (folder / STATE).write_text(json.dumps(body), encoding="utf-8")
                self.state.save_to_json(str(folder / TRAINER))
            keeper.prune(step)
        self.accelerator.wait_for_everyone()
        keeper.on_checkpoint(keeper.scores[-1] if keeper.score else None, step, self.model)
        if stale(keeper.scores, keeper.settings):
            self.control.should_training_stop = True

    def _load_from_checkpoint(self: Any, resume_from_checkpoint: str, model: Any = None) -> None:
        states.load_weights(self.model, Path(resume_from_checkpoint, WEIGHTS), self.is_fsdp_enabled)

    def _load_optimizer_and_scheduler(self: Any, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        body = files.read_json(Path(checkpoint, STATE))
        tensors = Path(checkpoint, "optimizer.safetensors")
        states.load_optimizer(self.model, self.optimizer, tensors, body["optimizer"], self.is_fsdp_enabled)
        self.lr_scheduler.load_state_dict(body["scheduler"])

    def _load_rng_state(self: Any, checkpoint: str | None) -> None:
        if checkpoint is not None:
            states.load_random(Path(checkpoint), self.accelerator.process_index)
