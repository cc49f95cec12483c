"""Rule -> questions: short vignettes with options, yes/no or open answers, each with its worked explanation.

The unit of splitting (`group`) is a rule with one value, or one combination of parts: what `test` asks was never
answered in `train`, though the rule behind it was.
"""

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from grandrounds.records import Question
from grandrounds.sources.rules import Bands, Rule, Sum

# Phrasings of the closing request; the last two are asked in `unseen` only.
ASK_BAND = ("Which is it?", "How is this graded?", "Classify it.", "What would you call this?", "Name the category.")
ASK_TOTAL = ("What is the total?", "How much in all?", "Add it up.", "Give the whole.", "What do they come to?")
SEEN_PHRASINGS = 3


@dataclass(frozen=True)
class Case:
    """One thing to ask about: a rule with a value, or with some of its parts."""

    rule: Rule
    findings: str  # as the vignette states them
    workings: tuple[str, ...]  # of a sum, step by step
    total: float
    key: str  # names the group

    @property
    def bands(self) -> Bands | None:
        return self.rule if isinstance(self.rule, Bands) else None

    @property
    def group(self) -> str:
        return f"{self.rule.name}/{self.key}"


def cases(rule: Rule) -> list[Case]:
    """Every case of a rule, in a fixed order."""
    if isinstance(rule, Bands):
        stated = f"{rule.subject}: {rule.measure} {{}} {rule.unit}."
        return [Case(rule, stated.format(rule.text(v)), (), v, rule.text(v)) for v in rule.values()]
    return [_sum_case(rule, parts) for parts in _combinations(rule)]


def _combinations(rule: Sum) -> Iterator[tuple[str, ...]]:
    for size in range(2, rule.at_most + 1):
        for parts in itertools.combinations(rule.parts, size):
            twice = {"one leg", "both legs"} <= set(parts) or {"one arm", "both arms"} <= set(parts)
            if not twice and sum(rule.parts[part] for part in parts) <= 100:
                yield parts


def _sum_case(rule: Sum, parts: tuple[str, ...]) -> Case:
    listed = ", ".join(parts)
    steps = [", ".join(f"{part} {rule.parts[part]}" for part in parts) + "."]
    running = rule.parts[parts[0]]
    for part in parts[1:]:
        steps.append(f"{running} and {rule.parts[part]} make {running + rule.parts[part]}.")
        running += rule.parts[part]
    return Case(rule, f"{rule.subject}: {listed}.", tuple(steps), running, listed)


def misremembered(case: Case) -> Case:
    """The same case under the rule as it is often misquoted."""
    if isinstance(case.rule, Bands):
        return replace(case, rule=case.rule.misremembered())
    return _sum_case(case.rule.misremembered(), tuple(case.key.split(", ")))


def compare(bands: Bands, value: float, band: int) -> list[str]:
    """A value beside each end of a band: "66 vs 60: reached", "66 vs 100: within".

    The verdict follows both numbers, so that a model that writes from left to right has them in view.
    """
    first, last = bands.ends(band)
    text = bands.text(value)
    lower = [f"{text} vs {bands.text(first)}: {'reached' if value >= first else 'below'}"] if first is not None else []
    upper = [f"{text} vs {bands.text(last)}: {'within' if value <= last else 'above'}"] if last is not None else []
    return lower + upper


def explain(case: Case) -> tuple[str, list[str], str]:
    """Explanation, key facts, conclusion of a case."""
    rule, bands = case.rule, case.bands
    if bands is None:
        conclusion = f"{case.total:.0f} {rule.unit}"
        return " ".join([*case.workings, f"So {conclusion}."]), [w.rstrip(".") for w in case.workings], conclusion
    band = bands.band(case.total)
    stated = bands.labels.index(bands.anchor)
    fact = f"{bands.labels[stated]} is {bands.span(stated)}"
    compared = compare(bands, case.total, stated)
    conclusion = bands.labels[band]
    restated = f"{rule.subject}: {rule.measure} {bands.text(case.total)}; {fact}."
    return f"{restated} {'; '.join(compared)}. So {conclusion}.", [fact, *compared], conclusion


def ask(
    case: Case, rng: random.Random, *, split: str, new_phrasing: bool = False, reference: str = "",
    source: str = "embedded-vignettes",
) -> Question:  # fmt: skip
    """One question about a case. `reference` is an open-book line that goes before the request."""
    bands, rule = case.bands, case.rule
    phrasings = ASK_BAND if bands else ASK_TOTAL
    request = rng.choice(phrasings[SEEN_PHRASINGS:] if new_phrasing else phrasings[:SEEN_PHRASINGS])
    explanation, facts, conclusion = explain(case)
    kind = rng.choices(["multiple_choice", "yes_no", "open_ended"], [7, 1, 2] if bands else [0, 1, 9])[0]
    options: list[str] = []
    label, answer, synonyms = "", conclusion, []
    if kind == "multiple_choice" and bands:
        options = list(bands.labels)
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
        source=source, split=split, group=case.group, specialty=rule.specialty, topic=rule.topic,
        modality="text", kind=kind, question=stem, options=options, answer=answer, label=label, synonyms=synonyms,
        explanation=explanation, key_facts=facts, conclusion=conclusion, image="",
    )  # fmt: skip


def _other(case: Case, rng: random.Random) -> str:
    """A wrong answer that is near enough to tempt."""
    if case.bands is None:
        wrong = case.total + rng.choice([-9, -5, 4, 5, 9])
        return (
            f"{max(wrong, 2):.0f} {case.rule.unit}" if wrong != case.total else f"{case.total + 1:.0f} {case.rule.unit}"
        )
    at = case.bands.band(case.total)
    near = [i for i in (at - 1, at + 1) if 0 <= i < len(case.bands.labels)]
    return case.bands.labels[rng.choice(near)]


def open_book(rule: Bands, rng: random.Random, *, split: str, shifted: bool, new_phrasing: bool) -> Question:
    """A question whose range stands in the prompt. `shifted`: an invented range, so that reading is all that helps."""
    width = rule.cuts[-1] - rule.cuts[0] or rule.cuts[0]
    if shifted:
        low = round(rng.uniform(rule.low, max(rule.high - width, rule.low)), rule.decimals)
        high = round(low + width * rng.uniform(0.5, 1.5) + 10**-rule.decimals, rule.decimals)
        rule = replace(rule, cuts=(low, high) if len(rule.cuts) == 2 else (low,))
    value = rng.uniform(max(rule.low, rule.cuts[0] - width), min(rule.high, rule.cuts[-1] + width))
    value = max(round(value, rule.decimals), 10**-rule.decimals)
    key = f"open book {rule.span(1)} {rule.text(value)}"
    case = Case(rule, f"{rule.subject}: {rule.measure} {rule.text(value)} {rule.unit}.", (), value, key)
    return ask(
        case, rng, split=split, new_phrasing=new_phrasing, reference=f"Reference: {rule.anchor} is {rule.span(1)}."
    )
