"""`grandrounds doctor`: this machine and checkout."""

from pathlib import Path

import typer


def doctor() -> None:
    """Check this machine and checkout, and say how to mend what is wrong."""
    from rich.console import Console
    from rich.text import Text

    from grandrounds.doctor import examine

    console = Console(highlight=False, soft_wrap=True)
    bad = 0
    for each in examine(Path.cwd()):
        bad += each.state == "bad"
        style = {"ok": "green", "note": "yellow", "bad": "bold red"}[each.state]
        line = Text(f"{each.state:5}", style=style).append(f"{each.what}: {each.found}", style="default")
        console.print(line.append(f"\n       -> {each.mend}", style="default") if each.mend else line)
    if bad:
        raise typer.Exit(1)
