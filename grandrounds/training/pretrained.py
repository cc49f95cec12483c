"""Pretrained models as folders: from the hub at a pinned commit, or from this machine; weights as safetensors only.

A download is kept in a folder named by the commit until it is whole, so that one that was cut off goes on. The licence
is read from the model's card and recorded, since what may be done with everything trained from it depends on it.
"""

import re
import shutil
from pathlib import Path
from typing import Any

import yaml

from grandrounds import files
from grandrounds.errors import UserError, one_line
from grandrounds.params import HubModel, HubRevision, LocalModel

WANTED = ("*.json", "*.jinja", "*.safetensors", "*.txt", "*.model")  # no pickles, no code
TOLD = ("README.md", "LICENSE*", "NOTICE*")
DOWNLOADS = Path(".scratch/hub")
PLACES = {"base": Path("models/base"), "teacher": Path("models/teacher")}


def fetch(spec: HubModel | LocalModel) -> dict[str, Any]:
    """Make models/base and models/teacher. Returns where each came from, and its licence, for the metrics.

    Raises UserError, with the mend, for what is not there, cannot be reached, or holds no safetensors.
    """
    told: dict[str, Any] = {"type": spec.type}
    for name, target in PLACES.items():
        source = getattr(spec, name)
        where = f"base.model.{name}"
        folder = _download(source, where) if isinstance(source, HubRevision) else _local(source, where)
        with files.replacing(target) as copy:
            copy.mkdir()
            for path in sorted({path for pattern in (*WANTED, *TOLD) for path in folder.glob(pattern)}):
                shutil.copy2(path, copy / path.name)
        if isinstance(source, HubRevision):
            told[name] = {"repository": source.repository, "revision": source.revision, "licence": licence(folder)}
        else:
            told[name] = {"folder": source.name, "licence": licence(folder)}
    shutil.rmtree(DOWNLOADS, ignore_errors=True)  # only now: base and teacher may be one download
    return told


def _download(source: HubRevision, where: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    folder = DOWNLOADS / f"{source.repository.replace('/', '--')}@{source.revision}"
    try:
        snapshot_download(
            source.repository, revision=source.revision, allow_patterns=[*WANTED, *TOLD], local_dir=folder
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise UserError(
            f"{where}: {source.repository} at {source.revision[:12]} cannot be fetched ({one_line(str(error), 200)}); "
            "check the name, the commit and the network; a gated model wants HF_TOKEN; what was fetched is kept"
        ) from None
    return _whole(folder, where)


def _local(folder: Path, where: str) -> Path:
    if not folder.is_dir():
        raise UserError(f"{where}: {folder} is not a folder; give the path of a transformers model")
    return _whole(folder, where)


def _whole(folder: Path, where: str) -> Path:
    """The folder, if it holds a configuration and every safetensors file that its index names."""
    if not (folder / "config.json").is_file():
        raise UserError(f"{where}: {folder} has no config.json; give a transformers model")
    if not list(folder.glob("*.safetensors")):
        raise UserError(f"{where}: {folder} has no *.safetensors; pickled weights are never loaded")
    index = folder / "model.safetensors.index.json"
    named = set(files.read_json(index)["weight_map"].values()) if index.is_file() else set()
    if lost := sorted(name for name in named if not (folder / name).is_file()):
        raise UserError(f"{where}: {folder} lacks {lost[0]}, which its index names; fetch or copy it again")
    return folder


def licence(folder: Path) -> str:
    """What the model card's head says (`license`, or `license_name` where that is "other"), else "not stated"."""
    card = folder / "README.md"
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    head = re.match(r"---\s*\n(.*?)\n---\s*(\n|$)", text, re.DOTALL)
    try:
        said = yaml.safe_load(head[1]) if head else {}
    except yaml.YAMLError:
        said = {}
    said = said if isinstance(said, dict) else {}
    name = said.get("license")
    found = said.get("license_name") if name in (None, "other") else name
    return one_line(str(found or name or "not stated"), 100)
