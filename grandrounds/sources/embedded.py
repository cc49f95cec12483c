"""The corpus that ships with the project: rule-based vignettes and MNI152 slices, split by group.

Each piece of knowledge has its own frequency in `pretrain`, Zipf-like, and some are never there; and its own
reliability, for what is told there is sometimes misquoted (`source` says so), as on the web. So the embedded base knows
some, is shaky on some and never saw some, which is what gives the difficulty filter something to find and reinforcement
something to choose from. All other splits ask about every rule alike, and answer as published.
"""

import random
from collections.abc import Callable

from grandrounds.errors import UserError
from grandrounds.params import EmbeddedSource
from grandrounds.records import HEARSAY, Question
from grandrounds.sources import brain as mr
from grandrounds.sources import vignettes
from grandrounds.sources.rules import NEVER_TRAINED, RULES, Bands, Rule

RELIABLE = (0.3, 1.0)  # of the pieces of knowledge in pretrain: the least and the most often stated as published
ZIPF = 0.7  # exponent of the frequency of pieces of knowledge in pretrain
NEVER = 0.1  # share of the pieces that pretrain never shows
OPEN_BOOK = 0.4  # share of pretrain text with the range in the prompt
PRETRAIN_IMAGES = 0.25  # share of pretrain
TEXT_SHARES = {"train": 0.5, "val": 0.1, "test": 0.25, "unseen": 0.15}  # of each rule's cases; pretrain shares train's
SLAB_SHARES = {"train": 0.4, "val": 0.15, "test": 0.3, "unseen": 0.15}
TEXT_SPECIALTIES = {"adult_medicine": 0.3, "pediatrics": 0.3, "brain_senses": 0.15, "oncology_surgery": 0.25}


def build(source: EmbeddedSource, seed: int) -> tuple[dict[str, list[Question]], dict[str, bytes]]:
    """All splits, and the pictures by file name. Same source and seed, same bytes."""
    splits: dict[str, list[Question]] = {}
    images: dict[str, bytes] = {}
    cases = _split_cases(seed)
    brain = mr.Brain.load()
    slabs = _split_slabs(brain, seed)
    for split in ("pretrain", "train", "val", "test", "unseen"):
        rng = random.Random(f"{seed}/{split}")
        size = getattr(source, split)
        pictured = round(size * (PRETRAIN_IMAGES if split == "pretrain" else source.image_share))

        def draw_text(split: str = split, rng: random.Random = rng) -> Question:
            return _text(split, cases, rng, seed)

        def draw_picture(split: str = split, rng: random.Random = rng) -> Question:
            place = rng.choice(slabs["train" if split == "pretrain" else split])
            question, png = mr.ask(
                brain,
                *place,
                rng,
                split=split,
                size=source.image_size,
                new_phrasing=split == "unseen",
                hearsay=split == "pretrain",
            )
            images[question.image] = png
            return question

        drawn = _distinct if split != "pretrain" else _repeating  # how often pretrain says a thing is its point
        questions = [*drawn(draw_text, size - pictured), *drawn(draw_picture, pictured)]
        rng.shuffle(questions)
        splits[split] = questions
    return splits, images


def _repeating(draw: Callable[[], Question], count: int) -> list[Question]:
    return [draw() for _ in range(count)]


def _distinct(draw: Callable[[], Question], count: int) -> list[Question]:
    """`count` questions that differ in what is asked. Raises UserError when the source has not that many."""
    found: dict[tuple, Question] = {}
    for _ in range(20 * count):
        if len(found) == count:
            break
        each = draw()
        found.setdefault((each.question, tuple(each.options), each.label, each.image), each)
    if len(found) < count:
        raise UserError(
            f"curate.sources.embedded: the embedded corpus has only {len(found)} of {count} questions; ask for fewer"
        )
    return list(found.values())


def _split_cases(seed: int) -> dict[str, dict[str, list[vignettes.Case]]]:
    """split -> rule -> cases. A group is in one split only; pretrain draws from train's."""
    out: dict[str, dict[str, list[vignettes.Case]]] = {split: {} for split in TEXT_SHARES}
    for rule in RULES:
        cases = vignettes.cases(rule)
        random.Random(f"{seed}/{rule.name}").shuffle(cases)
        first = 0.0
        for split, share in TEXT_SHARES.items():
            out[split][rule.name] = cases[round(first * len(cases)) : round((first + share) * len(cases))]
            first += share
    return out


def _split_slabs(brain: mr.Brain, seed: int) -> dict[str, list[tuple[str, int]]]:
    out: dict[str, list[tuple[str, int]]] = {split: [] for split in SLAB_SHARES}
    for plane in mr.PLANES:  # each split gets its share of every plane
        slabs = [place for place in brain.slabs() if place[0] == plane]
        random.Random(f"{seed}/slabs/{plane}").shuffle(slabs)
        first = 0.0
        for split, share in SLAB_SHARES.items():
            out[split] += slabs[round(first * len(slabs)) : round((first + share) * len(slabs))]
            first += share
    return out


def frequencies(seed: int) -> dict[str, float]:
    """How often `pretrain` asks about each rule, relative to the most frequent one; 0 for those it never shows."""
    names = [rule.name for rule in RULES]
    random.Random(f"{seed}/frequencies").shuffle(names)
    shown = round(len(names) * (1 - NEVER))
    return {name: (1 + rank) ** -ZIPF if rank < shown else 0.0 for rank, name in enumerate(names)}


def reliabilities(seed: int) -> dict[str, float]:
    """How often `pretrain` states each rule as it was published, and not as it is often misquoted."""
    names = [rule.name for rule in RULES]
    random.Random(f"{seed}/reliabilities").shuffle(names)
    low, high = RELIABLE
    return {name: low + (high - low) * rank / (len(names) - 1) for rank, name in enumerate(names)}


def _text(split: str, cases: dict, rng: random.Random, seed: int) -> Question:
    if split == "pretrain":
        if rng.random() < OPEN_BOOK:
            ranges = [rule for rule in RULES if isinstance(rule, Bands)]
            return vignettes.open_book(rng.choice(ranges), rng, split=split, shifted=True, new_phrasing=False)
        weights = frequencies(seed)
        rule = rng.choices(RULES, [weights[rule.name] for rule in RULES])[0]
        case = _balanced(cases["train"][rule.name], rng)
        if rng.random() < reliabilities(seed)[rule.name]:
            return vignettes.ask(case, rng, split=split)
        return vignettes.ask(vignettes.misremembered(case), rng, split=split, source=HEARSAY)
    if split == "unseen" and rng.random() < 0.4:
        return vignettes.open_book(rng.choice(NEVER_TRAINED), rng, split=split, shifted=False, new_phrasing=True)
    rule = _any_rule(rng)
    case = _balanced(cases[split][rule.name], rng)
    return vignettes.ask(case, rng, split=split, new_phrasing=split == "unseen")


def _any_rule(rng: random.Random) -> Rule:
    specialty = rng.choices(list(TEXT_SPECIALTIES), list(TEXT_SPECIALTIES.values()))[0]
    return rng.choice([rule for rule in RULES if rule.specialty == specialty])


def _balanced(cases: list[vignettes.Case], rng: random.Random) -> vignettes.Case:
    """A case whose band was drawn first, so that the wide bands at the ends do not outnumber the rest."""
    by_band: dict[int, list[vignettes.Case]] = {}
    for case in cases:
        by_band.setdefault(case.bands.band(case.total) if case.bands else 0, []).append(case)
    return rng.choice(by_band[rng.choice(sorted(by_band))])
