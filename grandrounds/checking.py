"""`grandrounds data check`: a source read as `curate` would read it, with nothing written, and what to think of it."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from grandrounds.errors import UserError, unknown
from grandrounds.params import Curate, EmbeddedSource, FilesOnly, FileSource, Params
from grandrounds.records import Quarantined, Question
from grandrounds.sources.catalogue import PUBLISHED, layout_of
from grandrounds.sources.images import Gallery
from grandrounds.sources.intake import Taken, kind, labeller, take

if TYPE_CHECKING:
    from rich.table import Table

OWN = ("table", "chat", "dicom", "nifti")
LONGEST = 300  # letters shown of one text


def named(params: Params, name: str) -> FileSource:
    """A source of params.yaml by name. Raises UserError for one that is not there, or has no files to check."""
    if name not in params.curate.sources:
        raise UserError(f"params.yaml: curate.sources: {unknown('source', name, params.curate.sources)}")
    spec = params.curate.sources[name]
    if isinstance(spec, EmbeddedSource):
        raise UserError(f"curate.sources.{name}: the embedded corpus is made, not read; there are no files to check")
    return spec


def described(kind_: str, values: Mapping[str, Any]) -> FileSource:
    """A source that is not in params.yaml, from what the command line says of it."""
    if kind_ not in (*PUBLISHED, *OWN):
        raise unknown("type of source", kind_, (*PUBLISHED, *OWN))
    try:
        return TypeAdapter(FilesOnly).validate_python({"type": kind_, **values})
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{'.'.join(str(part) for part in first['loc'][1:]) or kind_}: {first['msg']}") from None


def examine(name: str, spec: FileSource, curate: Curate) -> Taken:
    """Read the source. Pictures are decoded and normalised, and not kept."""
    return take(name, spec, Gallery(None, curate.max_pixels, curate.image_size_cap), labeller(curate.specialties))


def facts(spec: FileSource, taken: Taken, curate: Curate) -> Iterator[tuple[str, str]]:
    """What was read and what would become of it, as (what, how much)."""
    layout = layout_of(spec, curate.max_pixels)
    forbidden = "" if layout.licence.redistribute else "; not to be handed on"
    yield "source", f"{layout.name} ({spec.repository or spec.path}), for {spec.role}"
    yield "licence", layout.licence.name + forbidden + (f" ({layout.licence.note})" if layout.licence.note else "")
    yield "rows", str(taken.read + taken.left_out.total())
    for reason, count in taken.left_out.most_common():
        yield "  left out", f"{count} ({reason})"
    share = len(taken.quarantine) / max(taken.read, 1)
    yield "  questions", str(len(taken.questions))
    yield "  repeated", str(taken.repeated)
    limit = f"; curate.quarantine_share allows {100 * curate.quarantine_share:g} %"
    yield "  quarantined", f"{len(taken.quarantine)} ({100 * share:.1f} %{limit if taken.quarantine else ''})"
    for what in ("kind", "modality", "specialty"):
        counts = Counter(getattr(question, what) for question in taken.questions)
        yield what, ", ".join(f"{each} {count}" for each, count in sorted(counts.items())) or "none"
    yield "  decided by", "; ".join(f"{by} {count}" for by, count in taken.labelled.most_common()) or "nothing"
    yield "groups", str(len({question.group for question in taken.questions}))


def reasons(quarantine: list[Quarantined]) -> "Table":
    """Reasons of quarantine, most frequent first, each with the place of its first row."""
    from rich.table import Table

    first: dict[str, Quarantined] = {}
    for each in quarantine:
        first.setdefault(kind(each), each)
    table = Table("rows", "first at", "column", "reason", box=None, pad_edge=False)
    for reason, count in Counter(map(kind, quarantine)).most_common():
        row = first[reason]
        table.add_row(str(count), f"{row.file}:{row.row}", row.column, row.reason)
    return table


def shown(question: Question) -> str:
    """One question as the pipeline would see it, a field a line."""
    rows = [("question", question.question), *(("option", text) for text in question.options)]
    rows += [("answer", f"{question.label}. {question.answer}" if question.label else question.answer)]
    rows += [
        ("explanation", question.explanation),
        *(("picture", image) for image in question.images),
        ("group", question.group),
    ]
    rows += [("specialty", question.specialty), ("topic", question.topic)]
    return "\n".join(f"  {what:12}{_cut(text)}" for what, text in rows if text)


def _cut(text: str) -> str:
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return line if len(line) <= LONGEST else f"{line[:LONGEST]} ..."
