"""What is outside the checkout: servers, ports, DVC's remote, the model hub, keys, and who hears of our runs."""

import json
import os
import re
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib import metadata, util
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from grandrounds.doctor.finding import Finding
from grandrounds.errors import UserError, one_line
from grandrounds.tracking.server import shown

TIMEOUT = 3.0  # seconds a connection
HUB = "https://huggingface.co"
VERSIONS = {"MLflow": "version", "Prefect": "api/admin/version"}  # where each of the two tells its version
PLUGINS = {"s3": ("dvc_s3", "s3"), "ssh": ("dvc_ssh", "ssh"), "sftp": ("dvc_ssh", "ssh")}  # module, and our extra
SSH = 22


def mlflow(_: Path) -> Finding:
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if not uri:
        return Finding("ok", "MLflow server", "MLFLOW_TRACKING_URI is not set: the project's own sqlite file is used")
    if not uri.startswith(("http://", "https://")):
        return Finding("ok", "MLflow server", f"none: {shown(uri)} is used directly")
    return _server("MLflow", "MLFLOW_TRACKING_URI", uri)


def prefect(_: Path) -> Finding:
    uri = os.environ.get("PREFECT_API_URL", "")
    if not uri:
        return Finding("ok", "Prefect server", "PREFECT_API_URL is not set: one of our own is started for a run")
    if not urlsplit(uri).path.rstrip("/").endswith("/api"):
        mend = f"set it to {shown(uri).rstrip('/')}/api"
        return Finding("bad", "Prefect server", f"PREFECT_API_URL ({shown(uri)}) does not end in /api", mend)
    return _server("Prefect", "PREFECT_API_URL", uri.rstrip("/").removesuffix("/api"))


def _server(name: str, variable: str, uri: str) -> Finding:
    what, address = f"{name} server", shown(uri).rstrip("/")
    try:
        status, _ = get(f"{address}/")
    except (OSError, ValueError) as error:
        mend = f"start it, or unset {variable} to work without; a training goes on without MLflow, but its curves wait"
        return Finding("bad", what, f"{address} does not answer ({_why(error)})", mend)
    version = version_at(name, address)
    if version:
        ours = metadata.version(name.lower())
        if ours.split(".")[:2] == version.split(".")[:2]:
            return Finding("ok", what, f"{name} {version} at {address}")
        mend = f"install {name} {ours} there; what one of the two does not know yet, it refuses"
        return Finding("note", what, f"{name} {version} at {address}, but {ours} is installed here", mend)
    if status in (401, 403):
        return Finding("note", what, f"{address} answers, and wants credentials", "see that the environment has them")
    return Finding("bad", what, f"{address} answers ({status}), but is no {name}", f"set {variable} to that of {name}")


def version_at(name: str, address: str, direct: bool = False) -> str:
    """The version that an MLflow or Prefect server tells; "" for anything else."""
    try:
        status, text = get(f"{address}/{VERSIONS[name]}", direct)
    except (OSError, ValueError):
        return ""
    found = re.fullmatch(r'"?(\d+\.\d+[\w.+-]*)"?\s*', text)
    return found[1] if found and status == 200 else ""


def get(url: str, direct: bool = False) -> tuple[int, str]:
    """(status, the first kilobyte). `direct`: past any proxy. Raises OSError where nobody answers."""
    handlers = [urllib.request.ProxyHandler({})] if direct else []
    try:
        with urllib.request.build_opener(*handlers).open(url, timeout=TIMEOUT) as response:
            return response.status, response.read(1024).decode("utf-8", "replace")
    except urllib.error.HTTPError as error:
        return error.code, ""


def _why(error: Exception) -> str:
    return one_line(str(getattr(error, "reason", error)), 120)


def port(root: Path, number: int, name: str) -> Finding:
    """A port that `grandrounds ui` would take: free, of this project's own server, or whose."""
    what, address = f"port {number}", f"http://127.0.0.1:{number}"
    with socket.socket() as probe:
        probe.settimeout(1)
        if probe.connect_ex(("127.0.0.1", number)):
            return Finding("ok", what, f"free for {name}")
    version = version_at(name, address, direct=True)
    if version:
        owner = "of this project's `grandrounds ui`" if _ours(root, name) == address else "of another project"
        return Finding("ok", what, f"{name} {version}, {owner}")
    owner = _listener(number) or "a program of another user"
    mend = f"`grandrounds ui` takes a free port instead; or end {owner}"
    return Finding("note", what, f"taken by {owner}, which is no {name}", mend)


def _ours(root: Path, name: str) -> str:
    """The address that `grandrounds ui` of this project noted for one of its servers."""
    from flows.settings import SERVERS

    try:
        return str(json.loads((root / SERVERS).read_text(encoding="utf-8"))[name.lower()])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _listener(number: int) -> str:
    import psutil

    try:
        pids = [
            each.pid for each in psutil.net_connections("tcp") if each.status == "LISTEN" and each.laddr[1] == number
        ]
        return next((f"{psutil.Process(pid).name()} (process {pid})" for pid in pids if pid), "")
    except psutil.Error:
        return ""


def remote(root: Path) -> Finding:
    """DVC's default remote: configured, its plugin installed, its host listening, and its folder there."""
    from dvc.config import Config
    from dvc.repo import Repo

    what = "DVC remote"
    config = Config(str(root / ".dvc")) if (root / ".dvc").is_dir() else {}
    name, known = config.get("core", {}).get("remote"), config.get("remote", {})
    if name not in known:
        found = "none is the default" if known else "none: a fresh clone has to make all data and models anew"
        mend = (
            f"`dvc remote default {next(iter(known))}`" if known else "`dvc remote add -d storage URL`, then `dvc push`"
        )
        return Finding("note", what, found, mend)
    url, scheme = shown(known[name]["url"]), urlsplit(known[name]["url"]).scheme
    module, extra = PLUGINS.get(scheme, ("", ""))
    if module and not util.find_spec(module):
        return Finding(
            "bad", what, f"{url}: {module} is not installed", f"`pip install -c constraints.txt -e '.[{extra}]'`"
        )
    if host := _host(known[name]):
        try:
            socket.create_connection(host, TIMEOUT).close()
        except OSError as error:
            mend = f"start it, or mend the address: `dvc remote modify {name}`"
            return Finding("bad", what, f"{url}: {host[0]}:{host[1]} does not answer ({_why(error)})", mend)
    place = Repo(str(root)).cloud.get_remote(name)
    if place.fs.exists(place.path):
        return Finding("ok", what, f"{name}: {url}")
    return Finding("note", what, f"{name}: nothing at {url} yet", "`dvc push` fills it")


def _host(settings: dict[str, Any]) -> tuple[str, int] | None:
    """Where a remote listens, as far as its settings say."""
    address = urlsplit(settings.get("endpointurl") or settings["url"])
    ports = {"http": 80, "https": 443, "ssh": SSH, "sftp": SSH}
    if address.scheme not in ports or not address.hostname:
        return None
    return address.hostname, int(settings.get("port") or address.port or ports[address.scheme])


def hub(root: Path) -> Finding:
    """Whether the params in use read from the hub, and whether they may."""
    from grandrounds import runtime
    from grandrounds.params import load

    try:
        wanted = runtime.fetched(load(root / "params.yaml"))
    except UserError:
        return Finding("note", "hub", "not known without valid params", "mend params.yaml first")
    if not wanted:
        return Finding("ok", "hub", "not needed: stages work offline")
    if [name for name in runtime.OFFLINE if os.environ.get(name, "0").lower() not in ("", "0", "false")]:
        found = f"offline, and {', '.join(wanted[:3])} must be in the local cache already"
        return Finding("note", "hub", found, f"`unset {' '.join(runtime.OFFLINE)}` to fetch")
    return Finding("ok", "hub", f"{', '.join(wanted[:3])} will be fetched, or taken from the local cache")


def hub_reachable(_: Path) -> Finding:
    address = os.environ.get("HF_ENDPOINT", HUB)
    try:
        status, _text = get(address)
    except (OSError, ValueError) as error:
        mend = "not needed for the embedded default; else see proxy and firewall, or set HF_ENDPOINT to a mirror"
        return Finding("note", "hub reachable", f"{shown(address)} does not answer ({_why(error)})", mend)
    return Finding("ok", "hub reachable", f"{shown(address)} answers ({status})")


def keys(root: Path) -> Finding:
    """Whether the environment has the keys of the engines that params.yaml names. Their values are never read out."""
    from grandrounds.params import load

    try:
        used = dict(_keyed(load(root / "params.yaml"), ""))
    except UserError:
        return Finding("note", "keys", "not known without valid params", "mend params.yaml first")
    absent = {
        where: names for where, names in used.items() if not any(os.environ.get(name, "").strip() for name in names)
    }
    if absent:
        told = ", ".join(f"{where} needs {' or '.join(names)}" for where, names in absent.items())
        return Finding("bad", "keys", told, "set it in the environment; never in params.yaml")
    if not used:
        return Finding("ok", "keys", "none needed")
    return Finding("ok", "keys", "set: " + ", ".join(dict.fromkeys(" or ".join(names) for names in used.values())))


def _keyed(section: Any, where: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(key of params.yaml, names of variables) of every engine there that wants a key."""
    from grandrounds.engines import gemini, openai
    from grandrounds.params.engines import GeminiEngine, OpenAIEngine

    if isinstance(section, GeminiEngine):
        yield where, gemini.KEYS
    elif isinstance(section, OpenAIEngine):
        if any(url.startswith("https:") for url in section.endpoints):
            yield where, (openai.KEY,)
    elif isinstance(section, dict) or hasattr(section, "model_fields_set"):
        for name, value in section.items() if isinstance(section, dict) else iter(section):
            yield from _keyed(value, f"{where}.{name}".lstrip("."))


def telemetry(root: Path) -> Finding:
    """Stages and flows switch it off themselves (runtime.QUIET); here is what a user's settings switch on again."""
    from dvc.config import Config

    heard, mends = [], []
    core = Config(str(root / ".dvc")).get("core", {}) if (root / ".dvc").is_dir() else {}
    if core.get("analytics") is not False and not os.environ.get("DVC_NO_ANALYTICS"):
        heard, mends = ["DVC"], ["`dvc config core.analytics false`"]
    wanted = {"MLFLOW_DISABLE_TELEMETRY": True, "HF_HUB_DISABLE_TELEMETRY": True, "DO_NOT_TRACK": True,
              "PREFECT_SERVER_ANALYTICS_ENABLED": False}  # fmt: skip
    for name, off in wanted.items():
        if name in os.environ and (os.environ[name].lower() in ("1", "true", "yes", "on")) is not off:
            heard.append(name)
            mends.append(f"`unset {name}`")
    if heard:
        return Finding("note", "telemetry", f"on by {', '.join(heard)}", "; ".join(mends))
    return Finding("ok", "telemetry", "off (DVC, MLflow, Prefect, Hugging Face)")
