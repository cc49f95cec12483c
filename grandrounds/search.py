"""The search for a merge: Optuna proposes method, density and lambda, the caller scores, and the study is on disk.

Proposals are a function of the seed and of the trials before, so that a search that was interrupted and goes on gives
what an undisturbed one gives. With a limit of minutes the number of trials depends on the machine, and so the result.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from grandrounds.domain.merging.selection import Trial
from grandrounds.params import MergeMethod, MergeSearch

STEP = 0.05  # of density and lambda: finer differences are noise on a validation split


def trials(
    space: MergeSearch,
    own: MergeMethod,
    score: Callable[[MergeMethod], dict[str, float]],
    seed: int,
    study: Path,
    note: Callable[[Trial], None],
) -> list[Trial]:
    """The item's own method, then `space.trials` proposals, each scored (accuracy by specialty) and noted.

    Trials that `study` already holds are neither scored nor noted again.
    """
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study.parent.mkdir(parents=True, exist_ok=True)
    storage = JournalStorage(JournalFileBackend(str(study)))
    kept = optuna.create_study(study_name="merge", storage=storage, direction="maximize", load_if_exists=True)
    begin = time.monotonic()
    if "own" not in kept.user_attrs:
        first = Trial(0, own.model_dump(), score(own))
        note(first)
        kept.set_user_attr("own", first.scores)
    while True:
        done = _done(kept, own)
        late = space.minutes is not None and time.monotonic() - begin > 60 * space.minutes
        if len(done) > space.trials or late:
            return done
        sampler = optuna.samplers.TPESampler(seed=seed + len(done), n_startup_trials=max(4, space.trials // 3))
        before = optuna.create_study(direction="maximize", sampler=sampler)  # without what was cut off
        before.add_trials(kept.get_trials())
        asked = before.ask()
        method = _propose(space, asked)
        found = Trial(len(done), method.model_dump(), score(method))
        note(found)
        said = {"method": found.method, "scores": found.scores}
        kept.add_trial(
            optuna.trial.create_trial(
                params=asked.params, distributions=asked.distributions, value=found.macro, user_attrs=said
            )
        )


def _propose(space: MergeSearch, asked: Any) -> MergeMethod:
    kind = asked.suggest_categorical("type", list(space.methods))
    values = {"scale": asked.suggest_float("scale", *space.scale, step=STEP)}
    if kind != "linear":
        values["density"] = asked.suggest_float("density", *space.density, step=STEP)
    return TypeAdapter(MergeMethod).validate_python({"type": kind, **values})


def _done(kept: Any, own: MergeMethod) -> list[Trial]:
    """Numbered by their order."""
    rows = [(own.model_dump(), kept.user_attrs["own"])]
    rows += [(each.user_attrs["method"], each.user_attrs["scores"]) for each in kept.get_trials()]
    return [Trial(number, method, scores) for number, (method, scores) in enumerate(rows)]
