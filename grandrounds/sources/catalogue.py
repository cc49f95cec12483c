"""Every type of source by name, and how one that params.yaml names is opened and read."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from grandrounds.errors import UserError
from grandrounds.params import (
    ChatSource,
    DicomSource,
    EmbeddedSource,
    FileSource,
    NiftiSource,
    OwnSource,
    Params,
    PublishedSource,
)
from grandrounds.sources import chat, dicom, hub, nifti, rows
from grandrounds.sources.layout import Draft, Layout, Licence, plain
from grandrounds.sources.published import (
    cv_bench,
    m23k,
    medvlthinker_eval,
    medxpertqa,
    mmmu,
    omnimedvqa,
    path_vqa,
    pmc_vqa,
    silvar_med,
    slake,
    vqa_med_2019,
    vqa_rad,
)
from grandrounds.sources.rows import Row
from grandrounds.sources.store import Refused, Store

PUBLISHED: dict[str, Layout] = {
    "m23k": m23k.LAYOUT,
    "pmc_vqa": pmc_vqa.LAYOUT,
    "pmc_vqa_traces": pmc_vqa.TRACES,
    "medvlthinker_eval": medvlthinker_eval.LAYOUT,
    "vqa_rad": vqa_rad.LAYOUT,
    "slake": slake.LAYOUT,
    "vqa_med_2019": vqa_med_2019.LAYOUT,
    "path_vqa": path_vqa.LAYOUT,
    "silvar_med": silvar_med.LAYOUT,
    "omnimedvqa": omnimedvqa.LAYOUT,
    "medxpertqa_text": medxpertqa.TEXT,
    "medxpertqa_mm": medxpertqa.MM,
    "mmmu": mmmu.LAYOUT,
    "cv_bench": cv_bench.LAYOUT,
}
EMBEDDED = Licence("Apache-2.0", redistribute=True, note="pictures: MNI152 template, whose notice has to be kept")
TABLES = ("*.csv", "*.tsv", "*.jsonl", "*.ndjson", "*.json", "*.parquet")
SPLITS = {"train": "train", "test": "test", "unseen": "test"}  # role -> the published split that feeds it


def layout_of(spec: FileSource, max_pixels: int) -> Layout:
    """The layout of a source: a published one, or the user's own columns."""
    if isinstance(spec, PublishedSource):
        return PUBLISHED[spec.type]
    assert isinstance(spec, OwnSource)
    read = plain
    if isinstance(spec, ChatSource):
        read = chat.read
    elif isinstance(spec, DicomSource):
        read = dicom.reader(spec.cleared, max_pixels)
    elif isinstance(spec, NiftiSource):
        read = nifti.read
    return Layout(
        name=f"own data ({getattr(spec, 'type', 'table')})",
        home=str(spec.path or spec.repository),
        citation="",
        licence=Licence(spec.licence, spec.redistribute, spec.redistribute),
        tables=dict.fromkeys(SPLITS.values(), TABLES),
        columns=spec.columns,
        pictures="optional",
        more=("*",),
        read=read,
    )


def licence_of(spec: FileSource | EmbeddedSource) -> Licence:
    return EMBEDDED if isinstance(spec, EmbeddedSource) else layout_of(spec, 0).licence


@contextmanager
def opened(spec: FileSource, layout: Layout, split: str) -> Iterator[Store]:
    """The files of a source, fetched from the hub first where it is there."""
    if spec.repository and spec.revision:
        patterns = (*(spec.files or layout.tables.get(split, ())), *layout.more)
        with Store(hub.fetch(spec.repository, spec.revision, patterns), links=True) as store:
            yield store
    else:
        with Store(Path(spec.path or ".")) as store:
            yield store


def drafts(name: str, spec: FileSource, max_pixels: int) -> Iterator[tuple[Row, Draft | Refused | str]]:
    """Every row of a source with its draft, why it is refused, or why it was left out; one row in memory at a time.

    Raises UserError, with the source's name, when there is no table, or one that cannot be read.
    """
    layout = layout_of(spec, max_pixels)
    split = (isinstance(spec, PublishedSource) and spec.split) or SPLITS[spec.role]
    if split not in layout.tables and not spec.files:
        raise UserError(
            f"curate.sources.{name}: {layout.name} has no {split} split; it has {', '.join(layout.tables)}: "
            "set `split`, or `role`"
        )
    patterns = spec.files or layout.tables[split]
    with opened(spec, layout, split) as store:
        tables = store.tables(patterns)
        if not tables:
            raise UserError(
                f"curate.sources.{name}: {store.root} has no table {' or '.join(patterns)}; "
                "check `path`, or name the tables in `files`"
            )
        count = 0
        for table in tables:
            for row in rows.read(store, table, layout.header.get(split, ())):
                if count == spec.limit:
                    return
                count += 1
                yield row, _outcome(row, layout, split, store)


def _outcome(row: Row, layout: Layout, split: str, store: Store) -> Draft | Refused | str:
    if row.problem:
        return Refused(row.problem)
    try:
        return layout.left_out(row, split) or layout.read(row, layout, store)
    except Refused as refused:
        return refused


def about(params: Params) -> dict[str, dict[str, Any]]:
    """What is known of each source before it is read: for the data card, and for what `publish` may hand on."""
    told = {}
    benchmarks = {name: each.source for name, each in params.benchmarks.items()}
    for name, spec in (params.curate.sources | benchmarks).items():
        licence = licence_of(spec)
        known: dict[str, Any] = {"type": spec.type, "licence": licence.name, "note": licence.note}
        known |= {"redistribute": licence.redistribute, "derivatives": licence.derivatives}
        if isinstance(spec, EmbeddedSource):
            known |= {"role": "all", "name": "the embedded corpus", "place": "made here", "citation": ""}
        else:
            layout = layout_of(spec, params.curate.max_pixels)
            place = f"{spec.repository} at {spec.revision}" if spec.repository else str(spec.path)
            role = "benchmark" if name in benchmarks else spec.role
            known |= {"role": role, "name": layout.name, "place": place, "citation": layout.citation}
        told[name] = known
    return told
