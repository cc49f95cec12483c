"""`grandrounds merge`: LoRA adapters of one base become one."""

from pathlib import Path
from typing import Annotated

import typer

from grandrounds.errors import UserError


def merge(
    context: typer.Context,
    adapters: Annotated[list[str], typer.Option("--adapter", metavar="NAME=FOLDER", help="A PEFT LoRA; repeatable.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write; must not exist.")],
    method: Annotated[
        str, typer.Option(help="linear, ties, dare_linear, dare_ties, knots, ram, conflict_aware.")
    ] = "ties",
    weights: Annotated[
        list[str] | None, typer.Option("--weight", metavar="NAME=NUMBER", help="1 where not named; repeatable.")
    ] = None,
    density: Annotated[float | None, typer.Option(help="Share of entries that a trim or drop keeps.")] = None,
    scale: Annotated[float, typer.Option(help="Lambda, on the merged update.")] = 1.0,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=NUMBER", help="The method's own: seed=3, caution=2.")
    ] = None,
    rules: Annotated[
        list[str] | None,
        typer.Option(
            "--rule", metavar="JSON", help='{"modules": "*.v_proj", "update": "a", "weight": 0.5}; repeatable.'
        ),
    ] = None,
    rank: Annotated[int | None, typer.Option(min=1, help="Of the merged LoRA, at most; none: nothing is cut.")] = None,
    energy: Annotated[
        float | None, typer.Option(min=0.01, max=1, help="Smallest rank that keeps this share of the squared norm.")
    ] = None,
    kind: Annotated[str, typer.Option("--as", help="lora; cat (the exact sum); full (the base's weights).")] = "lora",
    base: Annotated[Path | None, typer.Option(help="Folder of the base model, for --as full.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Modules merged at once; changes no bit.")] = 2,
) -> None:
    """Merge LoRA adapters exactly, say where they fight, and write a folder that PEFT or transformers loads."""
    from grandrounds import merger

    here: Path = context.obj or Path.cwd()  # where the command was typed: `grandrounds` works from the project folder
    if kind not in ("lora", "cat", "full"):
        raise UserError(f"--as: lora, cat and full are valid, but {kind!r} was given")
    own = {key: _number("--set", key, value) for key, value in _pairs("--set", settings or []).items()}
    if density is not None:
        own["density"] = density
    job = merger.Job(
        {name: here / path for name, path in _pairs("--adapter", adapters).items()},
        merger.described(method, {"scale": scale, **own}),
        {name: _number("--weight", name, value) for name, value in _pairs("--weight", weights or []).items()},
        [merger.rule(each) for each in rules or []],
        kind,  # type: ignore[arg-type]
        rank,
        energy,
        here / base if base else None,
        workers,
    )
    done = merger.run(job, here / out)
    size = "the base's weights" if done.rank is None else f"a LoRA of rank {done.rank}"
    cut = f", at most {100 * done.largest_error:.2f} % of a module's update cut" if kind == "lora" else ""
    typer.echo(f"{out}: {len(job.adapters)} adapters merged by {method} in {done.modules} modules, {size}{cut}")
    if done.fight:
        typer.echo(done.fight)


def _pairs(option: str, given: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not (name and equals and value):
            raise UserError(f"{option}: NAME=VALUE is wanted, but {each!r} was given")
        if name in found:
            raise UserError(f"{option}: '{name}' was given twice")
        found[name] = value
    return found


def _number(option: str, name: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise UserError(f"{option} {name}: a number is wanted, but {value!r} was given") from None
