"""`grandrounds export` and `ask`: a registered model as a folder, and for one question."""

from pathlib import Path
from typing import Annotated

import typer

from grandrounds.commands.registry import split_name

Model = Annotated[str, typer.Argument(metavar="MODEL@ALIAS", help="Such as grandrounds@champion.")]


def export(
    context: typer.Context,
    model: Model,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write; must not exist, or be empty.")],
    adapter: Annotated[
        bool, typer.Option("--adapter", help="A PEFT adapter with its base beside it, not merged.")
    ] = False,
) -> None:
    """Write a registered model as a folder that plain transformers (or PEFT) loads."""
    from grandrounds import delivery, runtime
    from grandrounds.params import load

    runtime.prepare(load())  # offline, no telemetry, no bars of others
    with delivery.located(*split_name(model)) as found:
        delivery.export(found, Path(context.obj, out), adapter)
    how = "PEFT adapter, its base in base/" if adapter else "transformers folder"
    typer.echo(f"{out}: {model}, version {found.version} ({found.tags.get('arm', '')}), {how}. {delivery.NOTICE}")


def ask(
    context: typer.Context,
    model: Model,
    question: Annotated[str, typer.Argument(help="The question.")],
    image: Annotated[Path | None, typer.Option(help="A picture that it is about.")] = None,
    option: Annotated[list[str] | None, typer.Option(help="An answer to choose from; repeatable.")] = None,
) -> None:
    """Ask a registered model one question, for a look. Research only, never for clinical use."""
    from grandrounds import delivery, runtime
    from grandrounds.params import load

    params = load()
    runtime.prepare(params)
    picture = Path(context.obj, image) if image else None
    with delivery.located(*split_name(model)) as found:
        reply = delivery.ask(found, params, question, picture, option or [])
    typer.echo(f"{model}, version {found.version} ({found.tags.get('arm', '')}). {delivery.NOTICE}\n")
    if reply.thinking:
        typer.echo(f"thinking: {reply.thinking}")
    typer.echo(
        f"answer: {reply.answer}" if reply.answer else f"no answer in the asked form; the whole text: {reply.text}"
    )
