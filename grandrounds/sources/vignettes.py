"""Rule -> questions: short vignettes with options, yes/no or open answers, each with its worked explanation.

The unit of splitting (`group`) is a rule with one value, or one combination of parts: what `test` asks was never
answered in `train`, though the rule behind it was.
"""

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass

from grandrounds.records import Question
from grandrounds.sources.rules import Bands, Rule, Sum

# Phrasings of the closing request; the last two are asked in `unseen` only.
ASK_BAND = ("Which is it?", "How is this graded?", "Classify it.", "What would you call this?", "Name the category.")
ASK_TOTAL = ("What is the total?", "How much in all?", "Add it up.", "Give the whole.", "What do they come to?")
SEEN_PHRASINGS = 3


@dataclass(frozen=True)
class Case:
    """One thing to ask about: a rule with a value, or with scores of its parts."""

    rule: Rule
    findings: str  # as the vignette states them
    workings: tuple[str, ...]  # of the explanation, before the band
    total: float
    key: str  # names the group

    @property
    def bands(self) -> Bands | None:
        return self.rule if isinstance(self.rule, Bands) else self.rule.bands

    @property
    def group(self) -> str:
        return f"{self.rule.name}/{self.key}"


def cases(rule: Rule) -> list[Case]:
    """Every case of a rule, in a fixed order."""
    if isinstance(rule, Bands):
        stated = f"{rule.subject}: {rule.measure} {{}} {rule.unit}."
        return [Case(rule, stated.format(rule.text(v)), (), v, rule.text(v)) for v in rule.values()]
    return [_sum_case(rule, parts, scores) for parts, scores in _combinations(rule)]


def _combinations(rule: Sum) -> Iterator[tuple[tuple[str, ...], tuple[int, ...]]]:
    names = tuple(rule.parts)
    sizes = [len(names)] if rule.bands else range(2, rule.at_most + 1)
    for size in sizes:
        for parts in itertools.combinations(names, size):
            if {"one leg", "both legs"} <= set(parts) or {"one arm", "both arms"} <= set(parts):
                continue
            for scores in itertools.product(*(rule.parts[part] for part in parts)):
                if rule.unit != "percent" or sum(scores) <= 100:
                    yield parts, scores


def _sum_case(rule: Sum, parts: tuple[str, ...], scores: tuple[int, ...]) -> Case:
    total = sum(scores)
    if rule.bands:
        listed = ", ".join(f"{part} {score}" for part, score in zip(parts, scores, strict=True))
        known: tuple[str, ...] = ()
    else:  # the part's score is what has to be known
        listed = ", ".join(parts)
        known = (", ".join(f"{part} {score}" for part, score in zip(parts, scores, strict=True)) + ".",)
    running, steps = scores[0], []
    for score in scores[1:]:
        steps.append(f"{running} and {score} make {running + score}.")
        running += score
    return Case(rule, f"{rule.subject}: {listed}.", (*known, *steps), total, listed)


def relation(bands: Bands, value: float, band: int) -> str:
    """How the value lies to a band: "within", "below" or "above"."""
    own = bands.band(value)
    return "within" if own == band else "below" if own < band else "above"


def explain(case: Case) -> tuple[str, list[str], str]:
    """Explanation, key facts, conclusion of a case."""
    rule, bands = case.rule, case.bands
    if bands is None:
        conclusion = f"{case.total:.0f} {rule.unit}"
        return " ".join([*case.workings, f"So {conclusion}."]), [w.rstrip(".") for w in case.workings], conclusion
    band = bands.band(case.total)
    stated = bands.labels.index(bands.anchor) if bands.anchor else band
    fact = f"{bands.labels[stated]} is {bands.span(stated)}"
    compared = f"{bands.text(case.total)} is {relation(bands, case.total, stated)}"
    conclusion = bands.labels[band]
    restated = f"{rule.subject}: {rule.measure} {bands.text(case.total)}; {fact}."
    text = " ".join([*case.workings, restated, f"{compared}.", f"So {conclusion}."])
    return text, [*(w.rstrip(".") for w in case.workings[-1:]), fact, compared], conclusion


def ask(case: Case, rng: random.Random, *, split: str, new_phrasing: bool = False, reference: str = "") -> Question:
    """One question about a case. `reference` is an open-book line that goes before the request."""
    bands, rule = case.bands, case.rule
    phrasings = ASK_BAND if bands else ASK_TOTAL
    request = rng.choice(phrasings[SEEN_PHRASINGS:] if new_phrasing else phrasings[:SEEN_PHRASINGS])
    explanation, facts, conclusion = explain(case)
    kind = rng.choices(["multiple_choice", "yes_no", "open_ended"], [6, 2, 2] if bands else [0, 2, 8])[0]
    options: list[str] = []
    label, answer, synonyms = "", conclusion, []
    if kind == "multiple_choice":
        options = _options(bands, conclusion, rng)
        label = chr(ord("A") + options.index(conclusion)) if rng.random() < 0.15 else ""
    elif kind == "yes_no":
        asked = conclusion if rng.random() < 0.5 else _other(case, rng)
        request, answer = f"Is it {asked}?", "yes" if asked == conclusion else "no"
        explanation, conclusion = f"{explanation} {answer.capitalize()}.", answer
    elif bands is None:
        synonyms = [f"{case.total:.0f}", f"{case.total:.0f} %"]
    stem = " ".join(part for part in (case.findings, reference, request) if part)
    return Question(
        id=f"{split}-{rule.name}-{case.key}-{rng.getrandbits(32):08x}".replace(" ", "_"),
        source="embedded-vignettes", split=split, group=case.group, specialty=rule.specialty, topic=rule.topic,
        modality="text", kind=kind, question=stem, options=options, answer=answer, label=label, synonyms=synonyms,
        explanation=explanation, key_facts=facts, conclusion=conclusion, image="",
    )  # fmt: skip


def _options(bands: Bands, right: str, rng: random.Random) -> list[str]:
    """At most four labels in their order, the right one and its neighbours among them."""
    at = bands.labels.index(right)
    first = max(0, min(at - rng.randrange(4), len(bands.labels) - 4))
    return list(bands.labels[first : first + 4])


def _other(case: Case, rng: random.Random) -> str:
    """A wrong answer that is near enough to tempt."""
    if case.bands is None:
        wrong = case.total + rng.choice([-9, -5, 4, 5, 9])
        return f"{max(wrong, 2):.0f} {case.rule.unit}" if wrong != case.total else f"{case.total + 1:.0f} {case.rule.unit}"
    at = case.bands.band(case.total)
    near = [i for i in (at - 1, at + 1) if 0 <= i < len(case.bands.labels)]
    return case.bands.labels[rng.choice(near)]


def open_book(rule: Bands, rng: random.Random, *, split: str, shifted: bool, new_phrasing: bool) -> Question:
    """A question whose range stands in the prompt. `shifted`: an invented range, so that reading is all that helps."""
    if shifted:
        span = rule.cuts[-1] - rule.cuts[0]
        centre = rng.uniform(rule.low + span, max(rule.high - span, rule.low + span))
        low = round(centre - span * rng.uniform(0.3, 0.7), rule.decimals)
        high = round(low + span * rng.uniform(0.6, 1.4) + 10**-rule.decimals, rule.decimals)
        rule = Bands(rule.specialty, rule.topic, rule.subject, rule.measure, rule.unit, (low, high), rule.labels,
                     rule.low, rule.high, rule.source, rule.decimals, rule.anchor)  # fmt: skip
    values = rule.values()
    near = [v for v in values if abs(v - rule.cuts[0]) < 2 * (rule.cuts[1] - rule.cuts[0])] or values
    value = rng.choice(near)
    key = f"open book {rule.span(1)} {rule.text(value)}"
    stated = f"{rule.subject}: {rule.measure} {rule.text(value)} {rule.unit}."
    case = Case(rule, stated, (), value, key)
    return ask(case, rng, split=split, new_phrasing=new_phrasing, reference=f"Reference: normal is {rule.span(1)}.")
