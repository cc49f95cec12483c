"""From the rows of a source to questions, with every row accounted for: kept, repeated, quarantined or left out."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import TYPE_CHECKING

from grandrounds.domain import labelling
from grandrounds.errors import UserError
from grandrounds.params import FileSource, PublishedSource, SpecialtyRule
from grandrounds.records import SPECIALTIES, Quarantined, Question
from grandrounds.sources.catalogue import drafts
from grandrounds.sources.images import Gallery
from grandrounds.sources.layout import Draft
from grandrounds.sources.rows import Row
from grandrounds.sources.store import Refused

if TYPE_CHECKING:
    from PIL.Image import Image

Labeller = Callable[[Draft], labelling.Label]


def labeller(rules: Sequence[SpecialtyRule]) -> Labeller:
    """A draft's specialty: what its source states, else by the first rule whose words it has, else `other`.

    Without rules of the user's own, by labelling.RULES.
    """
    looks: dict[str, labelling.Look] = {
        "imaging": "modality",
        "subject": "subject",
        "question": "question",
        "any": "any",
    }
    table = [labelling.Rule(looks[rule.look], rule.specialty, ", ".join(rule.words)) for rule in rules]
    label = labelling.labeller(table or labelling.RULES)

    def of(draft: Draft) -> labelling.Label:
        if draft.specialty:
            return labelling.Label(draft.specialty, None, "", labelling.STATED)
        return label({"subject": draft.subject, "modality": draft.imaging, "question": draft.question})

    return of


@dataclass
class Taken:
    """What one source gave. rows = left out + read; read = questions + repeated + quarantined."""

    questions: list[Question] = field(default_factory=list)
    quarantine: list[Quarantined] = field(default_factory=list)
    repeated: int = 0  # of train: the same question, options, answer and pictures as an earlier row
    left_out: Counter[str] = field(default_factory=Counter)  # reason -> rows that the set has and that are not meant
    labelled: Counter[str] = field(default_factory=Counter)  # what decided a specialty -> questions
    undecided: list[str] = field(default_factory=list)  # ids of questions that no rule gave a specialty

    @property
    def read(self) -> int:
        return len(self.questions) + len(self.quarantine) + self.repeated

    def refuse_above(self, name: str, share: float) -> None:
        """Raise UserError when too much was quarantined: then the source is misread, or not what it seems."""
        if len(self.quarantine) > share * self.read:
            reason, count = Counter(kind(each) for each in self.quarantine).most_common(1)[0]
            first = next(each for each in self.quarantine if kind(each) == reason)
            raise UserError(
                f"curate.sources.{name}: {len(self.quarantine)} of {self.read} rows are unusable, above "
                f"curate.quarantine_share = {share:g}; most often ({count}) as in {first.file}, row {first.row}: "
                f"{first.column + ': ' if first.column else ''}{first.reason}; "
                f"`grandrounds data check {name}` lists them"
            )


def take(
    name: str,
    spec: FileSource,
    gallery: Gallery,
    label: Labeller,
    on_picture: Callable[[str, "Image"], None] = lambda file, picture: None,
) -> Taken:
    """Read a whole source. `on_picture` sees each stored picture, by file name, before it is let go of."""
    taken = Taken()
    seen = Counter[str]()
    ids: dict[str, int] = {}
    for row, outcome in drafts(name, spec, gallery.max_pixels):
        if isinstance(outcome, str):
            taken.left_out[outcome] += 1
            continue
        try:
            if isinstance(outcome, Refused):
                raise outcome
            if outcome.id and ids.setdefault(outcome.id, row.number) != row.number:
                raise Refused(f"id '{outcome.id[:60]}' stands already in row {ids[outcome.id]}", "id")
            labelled = label(outcome)
            question = _question(name, spec, outcome, labelled.specialty, gallery, on_picture)
        except Refused as refused:
            taken.quarantine.append(_quarantined(name, row, refused))
            continue
        seen[question.id] += 1
        if seen[question.id] > 1:
            if spec.role == "train":
                taken.repeated += 1
                continue
            # a benchmark without the rows that it repeats is another one
            question = replace(question, id=f"{question.id}-{seen[question.id]}")
        taken.questions.append(question)
        taken.labelled[labelled.by] += 1
        if labelled.by == labelling.UNDECIDED:
            taken.undecided.append(question.id)
    return taken


def _question(
    name: str,
    spec: FileSource,
    draft: Draft,
    specialty: str,
    gallery: Gallery,
    on_picture: Callable[[str, "Image"], None],
) -> Question:
    if draft.specialty and draft.specialty not in SPECIALTIES:
        raise Refused(f"'{draft.specialty[:60]}' is none of {', '.join(SPECIALTIES)}", "specialty")
    images = []
    for given in draft.pictures:
        image, picture = gallery.take(given)
        on_picture(image, picture)
        images.append(image)
    answer = draft.answer.casefold().rstrip(".") if _is_yes_no(draft) else draft.answer
    content = "\x1f".join([draft.question, *draft.options, answer, *(images or [""])])
    digest = sha256(content.encode("utf-8", "replace")).hexdigest()[:16]
    # a published set's groups are its own; an own table's are what its owner says, over all their sources
    group = f"{spec.type}/{draft.group}" if draft.group and isinstance(spec, PublishedSource) else draft.group
    return Question(
        id=f"{name}-{digest}",
        source=name,
        split=spec.role,
        group=group or (f"picture/{images[0]}" if images else f"question/{digest}"),
        specialty=specialty,
        topic=draft.topic or "none given",
        modality="image_text" if images else "text",
        kind="multiple_choice" if draft.options else "yes_no" if _is_yes_no(draft) else "open_ended",
        question=draft.question,
        options=list(draft.options),
        answer=answer,
        label=draft.label,
        synonyms=list(draft.synonyms),
        explanation=draft.explanation,
        key_facts=[],
        conclusion=answer,
        image=images[0] if images else "",
        more_images=images[1:],
    )


def _is_yes_no(draft: Draft) -> bool:
    return not draft.options and draft.answer.casefold().rstrip(".") in ("yes", "no")


def _quarantined(name: str, row: Row, refused: Refused) -> Quarantined:
    return Quarantined(name, row.file, row.number, refused.column, refused.reason)


def kind(each: Quarantined) -> str:
    """A reason without what it quotes and counts, so that alike ones add up: `image: there is no file '...'`."""
    bare = re.sub(r"\d+", "#", re.sub(r"'[^']*'", "'...'", each.reason))
    return f"{each.column}: {bare}" if each.column else bare
