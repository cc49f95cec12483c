"""Under what a model's data and base stand, as tags of its version: who takes weights from the registry sees no card.

`licence.redistribute` is of the data itself, `licence.derivatives` of weights that were trained on it: one source that
forbids is enough for `no`. Whoever did not state or check a licence counts as forbidding (sources/layout.py).
"""

from pathlib import Path
from typing import Any

from grandrounds import files
from grandrounds.params import EmbeddedModel, HubModel, Params

AUDIT = "reports/curate/metrics.json"
USE = "research only"
UNKNOWN = "unknown"
UNCHECKED = {"licence.use": USE} | {
    f"licence.{of}": UNKNOWN for of in ("data", "redistribute", "derivatives", "base")
}  # of a model whose data or base is not that of the workspace


def tags(params: Params, root: Path) -> dict[str, str]:
    """`licence.use`, `.data`, `.redistribute`, `.derivatives` and `.base`; `unknown` where curate left no account."""
    audit: dict[str, Any] = files.read_json(root / AUDIT) if (root / AUDIT).is_file() else {}
    sources: dict[str, Any] = audit.get("sources") or {}
    return {
        "licence.use": USE,
        "licence.data": "; ".join(f"{name}: {each['licence']}" for name, each in sources.items()) or UNKNOWN,
        "licence.redistribute": _allowed(sources, "redistribute"),
        "licence.derivatives": _allowed(sources, "derivatives"),
        "licence.base": _base(params),
    }


def _allowed(sources: dict[str, Any], what: str) -> str:
    if not sources:
        return UNKNOWN
    return "yes" if all(each[what] for each in sources.values()) else "no"


def _base(params: Params) -> str:
    model = params.base.model
    if isinstance(model, EmbeddedModel):
        return "Apache-2.0"
    return f"that of {model.base.repository}" if isinstance(model, HubModel) else UNKNOWN
