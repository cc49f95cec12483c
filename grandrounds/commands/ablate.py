"""`grandrounds ablate`: the comparisons that the papers make, over seeds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from grandrounds.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from grandrounds.ablations import Ablation, Trial
    from grandrounds.params import Params


def ablate(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="As in ablations.yaml; none: list them.")] = "",
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each arm.")] = 3,
    threads: Annotated[int, typer.Option(min=0, help="Of each stage; 0: as params.yaml says.")] = 0,
    dry: Annotated[bool, typer.Option("--dry", help="Show the experiments, run none.")] = False,
) -> None:
    """Train the arms of an ablation over seeds, and say what differs.

    Each training is a DVC experiment in a folder of its own: the workspace stays as it is, `dvc exp show` lists them,
    and one that is there already is not run again. Results: reports/ablations/NAME.json, and the report's section.
    """
    from rich.console import Console

    from grandrounds import ablations, files, recipes
    from grandrounds.params import load
    from grandrounds.tracking import experiments, git

    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = 150  # a log has no edge to break a table at
    if not name:
        for each, ablation in ablations.load().items():
            console.print(f"{each:18}{ablation.asks}", markup=False)
        return
    ablation, params, raw = ablations.find(name), load(), recipes.read(recipes.PARAMS)
    trials = ablations.trials(name, ablation, seeds, raw, params)
    console.print(f"{ablation.asks}\n  {ablation.claim}", markup=False)
    if dry:
        for trial in trials:
            console.print(f"  {trial.name}: {' '.join(experiments.settings(raw, trial.overrides))}", markup=False)
        return
    revisions = _carried_out(trials, raw, threads, console)
    found = {
        "name": name, "seeds": seeds, **ablation.model_dump(mode="json"), "git": git.state(),
        "experiments": {trial.name: revisions[trial.name] for trial in trials},
        "splits": _compared(trials, ablation, revisions, params),
    }  # fmt: skip
    path = ablations.RESULTS / f"{name}.json"
    files.write_json(path, found)
    _show(found, console)
    console.print(f"in {path}; `dvc exp show` has the experiments", style="dim")


def _carried_out(trials: "Sequence[Trial]", raw: Mapping[str, Any], threads: int, console: "Console") -> dict[str, str]:
    """Run what is not there yet. Returns the commit of each experiment by name."""
    import time

    from flows.processes import Groups, cause, log_path, stage_environment
    from grandrounds.tracking import experiments, git
    from grandrounds.tracking.progress import duration
    from grandrounds.tracking.stage import sigterm_as_interrupt

    # an experiment of this commit is what a changed tree would give only if nothing that matters was changed; DVC
    # knows, and restores what is the same from its run cache
    trusted = not git.state()["dirty"]
    found: dict[str, str] = {}
    for number, trial in enumerate(trials, 1):
        revision = experiments.find(trial.name)
        head = f"[{number}/{len(trials)}] {trial.variant}, seed {trial.seed} ({trial.name})"
        if revision and trusted:
            console.print(f"{head}: there already", markup=False)
            found[trial.name] = revision
            continue
        if revision:
            experiments.remove(trial.name)
        begin, groups, log = time.monotonic(), Groups(), log_path(Path.cwd(), f"ablate/{trial.name}")
        wanted = experiments.command(trial.name, [trial.target], [*experiments.settings(raw, trial.overrides)])
        try:
            with sigterm_as_interrupt():
                code = groups.run(wanted, log, cwd=Path.cwd(), env=stage_environment(threads))
        except KeyboardInterrupt:
            groups.stop()
            console.print("stopped; what had finished is kept, and the same command goes on from there", style="yellow")
            raise typer.Exit(130) from None
        revision = experiments.find(trial.name)
        if code or not revision:
            raise UserError(f"experiment {trial.name}: {cause(log)} (log: {log.relative_to(Path.cwd())})")
        console.print(f"{head}: {duration(time.monotonic() - begin)}", markup=False)
        found[trial.name] = revision
    return found


def _compared(
    trials: "Sequence[Trial]", ablation: "Ablation", revisions: Mapping[str, str], params: "Params"
) -> dict[str, Any]:
    """The figures of all arms, from the questions and predictions as the experiments have them."""
    import tempfile

    from grandrounds import files
    from grandrounds.domain.ablation import compare
    from grandrounds.records import Prediction, Question
    from grandrounds.tracking import experiments

    with tempfile.TemporaryDirectory() as folder:

        def rows(revision: str, path: str, record: type) -> list[Any]:
            copy = Path(folder, "rows.parquet")
            experiments.fetch(revision, path, copy)
            return files.read(copy, record)

        first = revisions[trials[0].name]
        questions = [
            each for split in params.predict.splits for each in rows(first, f"data/curated/{split}.parquet", Question)
        ]
        runs: dict[str, list[list[Prediction]]] = {variant: [] for variant in ablation.arms}
        for trial in trials:
            runs[trial.variant].append(rows(revisions[trial.name], trial.predictions, Prediction))
    return compare(questions, runs, ablation.against, params.judge.resamples, params.seed)


def _show(found: Mapping[str, Any], console: "Console") -> None:
    from rich.table import Table
    from rich.text import Text

    from grandrounds.reporting.sections.ablations import COLUMNS, cells

    for split, arms in found["splits"].items():
        table = Table(title=f"{split}, {found['seeds']} seeds", title_justify="left", box=None, pad_edge=False)
        for column in COLUMNS:
            table.add_column(column)
        for arm in arms:
            table.add_row(*map(Text, cells(found, split, arm)))
        console.print(table)
