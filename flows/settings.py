"""Prefect's settings for this project, as environment variables: they have to be there before Prefect is imported.

pyproject.toml's `[tool.prefect]` says the same to Prefect's own commands when they start in the project folder.
"""

import json
import os
import urllib.error
import urllib.request
from pathlib import Path

SCRATCH = Path(".scratch")
SERVERS = SCRATCH / "ui.json"  # written by `grandrounds ui` while its servers run

DEFAULTS = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_EPHEMERAL_ENABLED": "true",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",  # a cold, busy machine needs more than the default 20
    "PREFECT_SERVER_LOGGING_LEVEL": "ERROR",
    "PREFECT_CLI_PROMPT": "false",
}
# The console only: the Prefect UI still gets every line.
QUIET = {"PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL"}


def prepare(root: Path, *, quiet: bool = False) -> None:
    """Set what the user has not set. Runs are kept in `.prefect/` of the project, beside MLflow's `.mlflow/`.

    With no PREFECT_API_URL, a server that `grandrounds ui` runs for this project is used. `quiet` keeps Prefect's own
    lines off the console, for a flow that prints its progress itself.
    """
    for name, value in {**DEFAULTS, **(QUIET if quiet else {})}.items():
        os.environ.setdefault(name, value)
    folder = root / ".prefect"
    folder.mkdir(exist_ok=True)
    os.environ.setdefault("PREFECT_SERVER_DATABASE_CONNECTION_URL", f"sqlite+aiosqlite:///{folder / 'prefect.db'}")
    if "PREFECT_API_URL" not in os.environ and (address := running_server(root)):
        os.environ["PREFECT_API_URL"] = address


def running_server(root: Path) -> str | None:
    """The API address of the Prefect server that `grandrounds ui` runs for this project, if it answers."""
    try:
        address = json.loads((root / SERVERS).read_text(encoding="utf-8"))["prefect"] + "/api"
        return address if answers(address + "/health") else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def answers(address: str, timeout: float = 2.0) -> bool:
    """Whether an HTTP server says 200 at `address`. Proxies are not asked: the servers are on loopback."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(address, timeout=timeout) as response:
            return response.status == 200
    except (OSError, urllib.error.URLError, ValueError):
        return False
