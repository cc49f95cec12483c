"""`grandrounds lineage`: which bytes a registered model came from."""

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

import typer

from grandrounds.errors import UserError

if TYPE_CHECKING:
    from grandrounds.tracking.lineage import Lineage


def lineage(
    model: Annotated[str, typer.Argument(metavar="MODEL@ALIAS", help="Such as grandrounds@champion.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for a program.")] = False,
) -> None:
    """Show which bytes a registered model came from: runs, commits and data hashes, down to the sources."""
    name, at, alias = model.rpartition("@")
    if not (at and name and alias):
        raise UserError(f"'{model}': expected MODEL@ALIAS, such as grandrounds@champion")
    from grandrounds.tracking.lineage import render, walk

    found = walk(name, alias)
    if as_json:
        import json

        typer.echo(json.dumps(lineage_json(found), indent=1, ensure_ascii=False, default=str))
        return
    from rich.console import Console

    Console(highlight=False, soft_wrap=True).print(render(found))


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
    }
