"""Blocks as one self-contained HTML page. Autoescape is on, and a content security policy stands behind it.

The policy allows this page's own script by its hash, inline styles and data: images, nothing else: text that slipped
through the escaping could still neither run nor load anything.
"""

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from grandrounds.reporting.blocks import Section
from grandrounds.reporting.escaping import visible

TEMPLATES = Path(__file__).parent / "templates"


def page(title: str, statement: Sequence[str], sections: Sequence[Section]) -> str:
    """The whole page. `statement` is what must be read first; sections must be :func:`blocks.numbered`."""
    style = (TEMPLATES / "report.css").read_text(encoding="utf-8")
    script = "".join((TEMPLATES / name).read_text(encoding="utf-8") for name in ("report.js", "cases.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    allowed = f"style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'"
    policy = f"default-src 'none'; {allowed}; base-uri 'none'; form-action 'none'"
    # style and script are this package's own files; with a browser's payload, which is escaped where it is made, they
    # are the only text that is not escaped here
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            title=title,
            statement=statement,
            sections=sections,
            style=Markup(style),
            script=Markup(script),
            policy=policy,
        )
    )


@cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["payload"] = Markup
    made.filters["tight"] = lambda text: text.replace(" %", "\u00a0%")
    made.finalize = lambda value: (
        value if isinstance(value, Markup) else visible(value) if isinstance(value, str) else value
    )
    return made
