"""A registered model out of the registry: as a folder that plain transformers or PEFT loads, and for one question.

The bytes are taken from the workspace where they are those of the version, else from the registry itself; what fits
neither is refused, so that a folder never holds another model than its name says.
"""

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grandrounds import files, lora, models, runtime
from grandrounds.domain.answers import extract
from grandrounds.errors import UserError
from grandrounds.params import Params
from grandrounds.tracking import lock, picking, store
from grandrounds.tracking.lineage import find_version

NOTICE = "Research only, never for clinical use."
BASE = "models/base"


@dataclass(frozen=True)
class Located:
    """A version and where its bytes lie. `adapter` is None where the version is a whole model (`base` is then it)."""

    model: str
    version: str
    tags: dict[str, str]
    card: str
    base: Path
    adapter: Path | None


@contextmanager
def located(model: str, alias: str, root: str | Path = ".") -> Iterator[Located]:
    """The folders of `<model>@<alias>`, checked against the md5 that the registry has; UserError says what to pull."""
    client, _ = store.connect()
    version = find_version(client, model, alias)
    tags = dict(version.tags)
    said = f"{model} version {version.version}"
    path, md5 = Path(root, tags.get("path", "")), tags.get("output_md5", "")
    with tempfile.TemporaryDirectory() as folder:
        own = path if md5 and tags.get("path") and _is(path, md5, root) else _downloaded(version, md5, Path(folder))
        if own is None:
            if tags.get("path", "").startswith(picking.CHECKPOINT):
                raise UserError(f"{said}: {picking.LOST}")
            where = tags.get("commit", "").removesuffix("-dirty")
            raise UserError(
                f"{said}: {tags.get('path')} with md5 {md5} is neither here nor in the registry; "
                f"`git checkout {where or '<its commit>'} -- dvc.lock && dvc pull {tags.get('path')}`"
            )
        if not (own / lora.CONFIG).is_file():
            yield Located(model, str(version.version), tags, _card(version), own, None)
            return
        base = Path(root, BASE)
        wanted = tags.get("base_md5", "")
        if wanted and not _is(base, wanted, root):
            raise UserError(
                f"{said}: is an adapter on {BASE} with md5 {wanted}, which is not the one here; `dvc checkout {BASE}`, "
                f"or `git checkout {tags.get('commit', '').removesuffix('-dirty')} -- dvc.lock && dvc pull {BASE}`"
            )
        yield Located(model, str(version.version), tags, _card(version), files.need(base), own)


def _is(path: Path, md5: str, root: str | Path) -> bool:
    return path.is_dir() and lock.folder_digest(path, lock.listed(path, root)) == md5


def _downloaded(version: Any, md5: str, folder: Path) -> Path | None:
    """The version's files from the registry, without our own beside them; None where they are not those bytes."""
    import mlflow
    from mlflow.exceptions import MlflowException

    try:
        got = Path(
            mlflow.artifacts.download_artifacts(f"models:/{version.name}/{version.version}", dst_path=str(folder))
        )
    except (MlflowException, OSError):
        return None
    if picking.own_digest(got) != md5:
        return None
    for name in picking.OURS:
        (got / name).unlink(missing_ok=True)
    return got


def _card(version: Any) -> str:
    return str(version.description or "")


def export(found: Located, out: Path, as_adapter: bool) -> None:
    """Write `out`, whole or not at all: a transformers folder, or a PEFT folder with its base in `base/`.

    Merged, W + scale * B A is added in float32 and stored in the base's own type. UserError where `out` has something.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: exists and is not an empty folder; name another")
    if as_adapter and found.adapter is None:
        raise UserError(f"{found.model} version {found.version}: is a whole model, not an adapter; leave --adapter out")
    try:
        with files.replacing(out) as folder:
            if found.adapter is None:
                shutil.copytree(found.base, folder)
            elif as_adapter:
                shutil.copytree(found.adapter, folder)
                shutil.copytree(found.base, folder / "base")
            else:
                _write_merged(found, folder)
            (folder / "README.md").write_text(_readme(found, as_adapter), encoding="utf-8")
            files.write_json(folder / "grandrounds.json", _origin(found))
    except OSError as error:
        raise UserError(f"{out}: {error.strerror or error}; nothing was written") from error


def _write_merged(found: Located, folder: Path) -> None:
    config = json.loads((found.base / "config.json").read_text(encoding="utf-8"))
    precision = config.get("dtype") or config.get("torch_dtype") or "float32"
    model, processor = models.load(found.base, "cpu", precision)
    assert found.adapter is not None
    lora.load_adapter(model, found.adapter)
    model.save_pretrained(folder, safe_serialization=True)
    processor.save_pretrained(folder)


def _origin(found: Located) -> dict[str, Any]:
    kept = ("arm", "path", "output_md5", "base_md5", "data_md5", "commit", "seed", "promotion")
    return {"model": found.model, "version": found.version, "notice": NOTICE} | {
        key: found.tags[key] for key in kept if key in found.tags
    }


def _readme(found: Located, as_adapter: bool) -> str:
    load = (
        "model = AutoModelForImageTextToText.from_pretrained(folder)\nprocessor = AutoProcessor.from_pretrained(folder)"
    )
    peft = ""
    if as_adapter:
        peft = "from peft import PeftModel\n"
        load = (
            'base = AutoModelForImageTextToText.from_pretrained(folder + "/base")\n'
            "model = PeftModel.from_pretrained(base, folder)\n"
            'processor = AutoProcessor.from_pretrained(folder + "/base")'
        )
    return (
        f"# {found.model} version {found.version} ({found.tags.get('arm', '')})\n\n{NOTICE}\n\n```python\n{peft}"
        f'from transformers import AutoModelForImageTextToText, AutoProcessor\n\nfolder = "."\n{load}\n```\n\n'
        f"Which bytes it came from: grandrounds.json.\n\n{found.card}\n"
    )


@dataclass(frozen=True)
class Reply:
    thinking: str
    answer: str  # "" where the text has none that the strict extractor reads
    text: str


def ask(found: Located, params: Params, text: str, image: Path | None, options: list[str]) -> Reply:
    """One question to a model, greedily, under the reasoning prompt. UserError for a picture that cannot be read."""
    from grandrounds import forms
    from grandrounds.domain import prompts
    from grandrounds.encoding import Encoder
    from grandrounds.engines.local import LocalEngine
    from grandrounds.engines.protocol import Request
    from grandrounds.params import Sampling
    from grandrounds.records import Question

    if not text.strip():
        raise UserError("ask: the question is empty")
    if image is not None and not image.is_file():
        raise UserError(f"{image}: no such picture")
    question = Question(
        id="asked", source="", split="", group="", specialty="", topic="", answer="", label="", explanation="",
        conclusion="", modality="image_text" if image else "text", question=text.strip(),
        kind="multiple_choice" if options else "open_ended", options=options, synonyms=[], key_facts=[],
        image=image.name if image else "",
    )  # fmt: skip
    model, processor = models.load(found.base, runtime.device(params), params.compute.precision)
    if found.adapter is not None:
        lora.load_adapter(model, found.adapter)
    engine = LocalEngine(model, Encoder(processor, image.parent if image else "."), params.seed)
    request = Request("asked", question, prompts.form("reasoning", forms.read(params.prompts)))
    sampling = Sampling(temperature=0.0, max_new_tokens=params.predict.sampling.max_new_tokens)
    (completion,) = engine.generate([request], sampling)
    if completion.problem:
        raise UserError(f"ask: {completion.problem}")
    thinking = completion.text.partition("<think>")[2].partition("</think>")[0].strip()
    return Reply(thinking, extract(completion.text).answer or "", completion.text)
