"""`grandrounds plan`, `run`, `ui` and `serve`: the pipeline and its servers."""

from pathlib import Path
from typing import Annotated

import typer

Stages = Annotated[
    list[str] | None,
    typer.Argument(metavar="[STAGES]...", help="Stages with all they need, such as 'judge' or 'grpo@rarl'; none: all."),
]
Force = Annotated[bool, typer.Option("--force", "-f", help="Run stages even when nothing changed.")]
Workers = Annotated[int, typer.Option("--workers", "-w", min=1, help="Stages at once; cores are shared out.")]


def plan(stages: Stages = None, force: Force = False) -> None:
    """Show the stages in waves: which would run, and why."""
    from rich.console import Console

    from flows.plan import make
    from flows.progress import plan_table

    Console(highlight=False).print(plan_table(make(stages or (), force=force)))


def run(stages: Stages = None, workers: Workers = 2, force: Force = False) -> None:
    """Reproduce what changed through Prefect, some stages at a time.

    The same as `dvc repro`, in parallel. Logs are in .scratch/logs/. Ctrl-C keeps what had finished.
    """
    from flows.plan import make

    todo = make(stages or (), force=force)
    running = sum(each.action == "run" for each in todo)
    if not running:
        typer.echo(f"all {len(todo)} stages are unchanged; nothing to run (--force runs them all the same)")
        return
    typer.echo(f"{running} of {len(todo)} stages to run, {workers} at a time; starting Prefect ...")
    folder = Path.cwd()
    from flows import server, settings

    settings.prepare(folder, quiet=True)
    wait = server.start_temporary_server(folder)
    from flows import pipeline

    wait()
    try:
        done = pipeline.run(stages or (), force=force, workers=workers)
    except KeyboardInterrupt:
        typer.echo("stopped; what had finished is kept, and the next run goes on from there", err=True)
        raise typer.Exit(130) from None
    if not done:
        raise typer.Exit(1)


def ui(
    prefect_port: Annotated[int, typer.Option(min=1, max=65535, help="Taken by another: a free one is used.")] = 4200,
    mlflow_port: Annotated[int, typer.Option(min=1, max=65535, help="Taken by another: a free one is used.")] = 5000,
) -> None:
    """Start the Prefect and MLflow servers on loopback, until Ctrl-C."""
    from flows.serve import ui as start

    start(Path.cwd(), prefect_port, mlflow_port)


def serve(
    cron: Annotated[str, typer.Option(help="When to run by itself, such as '0 3 * * 1'; none: only on demand.")] = "",
    workers: Workers = 2,
) -> None:
    """Serve the flow to the Prefect UI from this process: on demand, and on a schedule."""
    from flows.serve import serve as start

    start(Path.cwd(), cron or None, workers)
