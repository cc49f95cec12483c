"""`grandrounds pick`, `promote`, `rollback` and `restore`: the model registry."""

from typing import TYPE_CHECKING, Annotated

import typer

from grandrounds.errors import UserError

if TYPE_CHECKING:
    from grandrounds.tracking.selecting import Candidate

GUARDED = ("champion", "previous")  # only a test moves them


def split_name(model: str, default: str = "") -> tuple[str, str]:
    """`grandrounds@champion` as (model, alias or version)."""
    name, at, alias = (model or default).rpartition("@")
    if not (at and name and alias):
        raise UserError(f"'{model}': expected MODEL@ALIAS, such as grandrounds@champion")
    return name, alias


def pick(
    where: Annotated[str, typer.Option(help="Such as 'val.accuracy > 0.6 and val.reasoning >= 0.5'.")] = "",
    order_by: Annotated[str, typer.Option(help="The metric of which the highest is taken.")] = "val.accuracy",
    ascending: Annotated[bool, typer.Option("--ascending", help="Take the lowest instead.")] = False,
    alias: Annotated[str, typer.Option(help="Give this alias to the one picked; none: only show.")] = "",
    checkpoints: Annotated[
        bool, typer.Option("--checkpoints", help="Among checkpoints of trainings, not arms.")
    ] = False,
    show: Annotated[int, typer.Option(min=1, help="Rows to show.")] = 10,
) -> None:
    """Find the best registered model, or checkpoint, that satisfies some conditions, and give it an alias."""
    from grandrounds.params import load
    from grandrounds.tracking import picking

    _check_alias(alias)
    params = load()
    found = picking.look(params, where, order_by, ascending, checkpoints)
    _table(found.found[:show], order_by, where)
    for row in found.unscored:
        typer.echo(f"  {row.name}: has no {order_by}", err=True)
    if not found.found:
        raise UserError(
            f"none of {len(found.others) + len(found.unscored)} models holds --where '{where}'; no alias was moved"
        )
    if alias:
        version = picking.name(params, found.found[0], alias, where, order_by)
        typer.echo(f"{params.publish.model_name}@{alias} is version {version} ({found.found[0].name})")


def _check_alias(alias: str) -> None:
    from grandrounds.tracking.registry import RESERVED

    if alias in GUARDED:
        raise UserError(f"--alias {alias}: only a test moves it; pick a challenger, then `grandrounds promote`")
    if alias and alias != "challenger" and (RESERVED.match(alias) or not alias.replace("-", "_").isidentifier()):
        raise UserError(f"--alias {alias}: expected a name of letters, digits, '_' and '-', not 'latest' or 'v1'")


def _table(rows: "list[Candidate]", order_by: str, where: str) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from grandrounds.tracking.selecting import parse

    asked = [condition.metric for condition in parse(where)] if where.strip() else []
    metrics = list(dict.fromkeys([order_by, *asked]))
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("", "model", "version", *metrics, "md5"):
        table.add_column(heading, justify="right" if heading in metrics else "left", no_wrap=True)
    for number, row in enumerate(rows):
        figures = [f"{row.scores[name]:.4g}" if name in row.scores else "-" for name in metrics]
        table.add_row(
            "*" if number == 0 else "", row.name, row.version or "-", *figures, row.tags.get("output_md5", "")[:12]
        )
    Console(highlight=False).print(table)


def promote(
    model: Annotated[
        str, typer.Argument(metavar="[MODEL@ALIAS]", help="None: the challenger of publish.model_name.")
    ] = "",
) -> None:
    """Make a model the champion, if it is not worse than the one before by more than publish.margin on val.

    A version that was never asked val, as a checkpoint is, answers it first.
    """
    from grandrounds import runtime
    from grandrounds.params import load
    from grandrounds.tracking import promotion

    params = load()
    name, alias = split_name(model, f"{params.publish.model_name}@challenger")
    for version in promotion.unanswered(name, alias):
        from grandrounds import examining

        runtime.prepare(params)
        share = examining.examine(params, name, version)
        typer.echo(f"{name} version {version}: {100 * share:.1f} % right on {params.publish.select_split}")
    decision = promotion.promote(params, name, alias)
    if not decision.passed:
        raise UserError(
            f"{name}@{alias} (version {decision.challenger}) beside the champion (version {decision.champion}): "
            f"{decision.why}; champion stays"
        )
    was = f", previous is version {decision.champion}" if decision.champion else ""
    typer.echo(f"{name}@champion is version {decision.challenger}{was}: {decision.why}")


def rollback(
    model: Annotated[str, typer.Argument(metavar="[MODEL]", help="None: publish.model_name.")] = "",
) -> None:
    """Make the previous champion the champion again."""
    from grandrounds.params import load
    from grandrounds.tracking import promotion

    decision = promotion.rollback(model or load().publish.model_name)
    typer.echo(f"champion is version {decision.challenger} again, previous is version {decision.champion}")


def restore() -> None:
    """Rebuild MLflow's runs, versions and aliases from the files of this checkout, after `dvc pull`."""
    from grandrounds.params import load
    from grandrounds.tracking import restoring

    done = restoring.restore(load())
    typer.echo(f"{done.runs} runs and {len(done.versions)} versions ({len(done.new)} new) are in MLflow")
    typer.echo("aliases: " + ", ".join(f"{alias} {version}" for alias, version in sorted(done.aliases.items())))
    for each in done.lost:
        typer.echo(f"not restored: {each}", err=True)
