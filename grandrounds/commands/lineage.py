"""`grandrounds lineage`: which bytes a registered model came from."""

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

import typer

from grandrounds.commands.registry import split_name
from grandrounds.errors import UserError

if TYPE_CHECKING:
    from grandrounds.tracking.lineage import Lineage


def lineage(
    model: Annotated[str, typer.Argument(metavar="[MODEL@ALIAS]", help="Such as grandrounds@champion.")] = "",
    source: Annotated[str, typer.Option("--from", metavar="PATH", help="Instead: what came of this file.")] = "",
    group: Annotated[str, typer.Option(help="Instead: what depends on this patient, slab or article.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for a program.")] = False,
) -> None:
    """Show which bytes a registered model came from, down to the sources; or which models came from some bytes."""
    if sum(map(bool, (model, source, group))) != 1:
        raise UserError("lineage: needs one of MODEL@ALIAS (such as grandrounds@champion), --from PATH, --group NAME")
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    if not model:
        from grandrounds.tracking import impact

        reached = impact.of_file(source) if source else impact.of_group(group)
        if as_json:
            typer.echo(impact.dumps(reached))
        else:
            console.print(impact.render(reached))
        return
    name, alias = split_name(model)
    from grandrounds.tracking.lineage import render, walk

    found = walk(name, alias)
    if as_json:
        import json

        typer.echo(json.dumps(lineage_json(found), indent=1, ensure_ascii=False, default=str))
        return
    console.print(render(found))


def verify(
    model: Annotated[str, typer.Argument(metavar="MODEL@ALIAS", help="Such as grandrounds@champion.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for a program.")] = False,
) -> None:
    """Hash everything that a model came from anew, and say what is true, changed or missing; exit code 1 if any is."""
    from collections import Counter

    from grandrounds.tracking import verifying

    checks = verifying.verify(*split_name(model))
    if as_json:
        import json

        typer.echo(json.dumps([vars(each) for each in checks], indent=1, ensure_ascii=False))
    else:
        for each in checks:
            if each.state != "true":
                typer.echo(f"{each.state:8}{each.path}  {each.md5}: {each.where}")
        for where, number in Counter(each.where for each in checks if each.state == "true").items():
            typer.echo(f"{'true':8}{number} of {len(checks)}: {where}")
    wrong = sum(each.state != "true" for each in checks)
    if wrong:
        raise UserError(f"{model}: {wrong} of {len(checks)} paths are not what its records say")


def lineage_json(found: "Lineage") -> dict[str, Any]:
    """A lineage as plain values: each run once, its inputs naming the run that wrote them."""

    def edge(each: Any) -> dict[str, Any]:
        return {"path": each.path, "md5": each.md5, "run_id": each.node.run_id if each.node else None}

    def node(each: Any) -> dict[str, Any]:
        plain = {field.name: getattr(each, field.name) for field in dataclasses.fields(each) if field.name != "inputs"}
        return {**plain, "inputs": [edge(one) for one in each.inputs]}

    head = {"model": found.model, "version": found.version, "alias": found.alias, "arm": found.arm}
    return {
        **head,
        "root": edge(found.root),
        "runs": [node(each) for each in found.nodes()],
        "sources": [edge(each) for each in found.sources()],
        "source_files": found.source_files(),
    }
