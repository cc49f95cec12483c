"""Specialist x specialty, and the conflict that the merge has to settle: adult against pediatric vital signs."""

from collections.abc import Mapping
from typing import Any

from grandrounds.records import SPECIALTIES
from grandrounds.reporting.blocks import Block, Figure, Row, Section, Table, Text, missing
from grandrounds.reporting.collect import Run
from grandrounds.reporting.numbers import count, number, percent, points, words
from grandrounds.reporting.plots import heat

ENOUGH = 15  # questions, below which a topic's change is not told
BENEATH = ("experts", "mmedexpert", "base", "sft")


def section(run: Run) -> Section:
    specialists = [
        arm for arm in run.arms if run.params.predict.arms[arm].family == "specialist" and _by(run, arm, "by_specialty")
    ]
    beneath = [arm for arm in BENEATH if arm in run.arms and _by(run, arm, "by_specialty")]
    rows = specialists + beneath
    columns = [name for name in SPECIALTIES if any(name in _by(run, arm, "by_specialty") for arm in rows)]
    blocks: list[Block] = []
    if specialists and columns:
        blocks.append(_matrix(run, specialists, beneath, columns))
        blocks.append(Text(_reading(run, specialists, columns), lead="Home and away."))
    else:
        blocks.append(missing("Accuracy by specialty of the four specialists"))
    blocks += _vitals(run, rows)
    return Section("specialties", "Specialists, specialties, conflict", blocks)


def _matrix(run: Run, specialists: list[str], beneath: list[str], columns: list[str]) -> Figure:
    arms = specialists + beneath
    values = [[_accuracy(run, arm, name) for name in columns] for arm in arms]
    known = [value for row in values for value in row if value is not None] or [0.0]
    framed = [(row, columns.index(home)) for row, arm in enumerate(specialists) if (home := _home(run, arm)) in columns]
    sizes = [
        max((count((_by(run, arm, "by_specialty").get(name) or {}).get("n")) for arm in arms), key=len)
        for name in columns
    ]
    names = [run.title(arm) for arm in arms]
    drawing = heat(
        "Accuracy on test, %",
        names,
        [*map(words, columns)],
        values,
        (min(known), max(known)),
        framed=framed,
        rule=len(specialists),
    )
    rows = [Row(["n questions", *sizes])]
    rows += [Row([run.title(arm), *map(_plain, row)]) for arm, row in zip(arms, values, strict=True)]
    told = ", ".join(f"{words(name)} {size}" for name, size in zip(columns, sizes, strict=True))
    return Figure(
        "Rows: who answers. Columns: whose questions",
        [drawing],
        f"Orange frames: a specialist at home. Beneath: the merges, base and SFT. n counts test questions: {told}. "
        "Colour runs from the lowest to the highest cell.",
        Table("Accuracy on test by specialty, %", ["arm", *map(words, columns)], rows),
    )


def _reading(run: Run, specialists: list[str], columns: list[str]) -> str:
    """Whether each specialist is best at home among the specialists, and where it loses most against base."""
    told = []
    for arm in specialists:
        home = _home(run, arm)
        own = _accuracy(run, arm, home)
        peers = [value for other in specialists if (value := _accuracy(run, other, home)) is not None]
        if own is None:
            continue
        rank = 1 + sum(value > own for value in peers)
        place = "best of the specialists" if rank == 1 else f"number {rank} of {len(peers)} specialists"
        line = f"{run.title(arm)} is {place} at home ({_plain(own)} %)"
        changes = {
            name: value - base
            for name in columns
            if name != home
            and (value := _accuracy(run, arm, name)) is not None
            and (base := _accuracy(run, "base", name)) is not None
        }
        if changes:
            worst = min(changes, key=lambda name: changes[name])
            verb = "loses most in" if changes[worst] < 0 else "gains least in"
            line += f" and {verb} {words(worst)} ({points(changes[worst] / 100)} points against base)"
        line += _worst_topic(run, arm)
        told.append(line)
    return (
        ("; ".join(told) + ". These are single figures without intervals: small gaps may be chance.")
        if told
        else "Not known."
    )


def _worst_topic(run: Run, arm: str) -> str:
    """Where a specialist lost most against base, among topics with enough questions to say so; "" when nowhere."""
    changes = {
        topic: (after - before) / 100
        for topic, row in _by(run, arm, "by_topic").items()
        if (number((row or {}).get("n")) or 0) >= ENOUGH
        and (after := _topic(run, arm, topic)) is not None
        and (before := _topic(run, "base", topic)) is not None
    }
    worst = min(changes, key=lambda topic: changes[topic], default="")
    if not worst or changes[worst] >= 0:
        return ""
    return f"; of single topics it loses most in {words(worst)} ({points(changes[worst])})"


def _vitals(run: Run, arms: list[str]) -> list[Block]:
    """Topics named `adult ... vital signs` and `pediatric ... vital signs`, which share words and differ in ranges."""
    topics = sorted({topic for arm in run.arms for topic in _by(run, arm, "by_topic")})
    vital = [topic for topic in topics if "vital sign" in topic.lower().replace("_", " ")]
    adult = next((topic for topic in vital if topic.lower().startswith("adult")), None)
    child = next((topic for topic in vital if topic.lower().startswith(("pediatric", "paediatric", "child"))), None)
    if not adult or not child:
        return [missing("Adult against pediatric vital signs")]
    order = [arm for arm in (*arms, *(arm for arm in run.arms if arm not in arms)) if _by(run, arm, "by_topic")]
    values = [[_topic(run, arm, adult), _topic(run, arm, child)] for arm in order]
    sizes = [count((_by(run, order[0], "by_topic").get(topic) or {}).get("n")) for topic in (adult, child)]
    names = [run.title(arm) for arm in order]
    known = [value for row in values for value in row if value is not None] or [0.0]
    rule = sum(run.params.predict.arms[arm].family == "specialist" for arm in order)
    rows = [Row([name, *map(_plain, row), _gap(*row)]) for name, row in zip(names, values, strict=True)]
    pair = [words(adult), words(child)]
    figure = Figure(
        "One reading, two meanings: adult against pediatric vital signs",
        [heat("Accuracy on test, %", names, pair, values, (min(known), max(known)), rule=rule)],
        "The same heart rate is fast in an adult and normal in an infant, so what one specialist learns contradicts "
        f"the other; a merge must hold both. n counts test questions: {pair[0]} {sizes[0]}, {pair[1]} {sizes[1]}.",
        Table(
            "Accuracy by topic on test", ["arm", f"{pair[0]}, %", f"{pair[1]}, %", "adult − pediatric, points"], rows
        ),
    )
    return [figure, *_contrast(run, adult, child)]


def _contrast(run: Run, adult: str, child: str) -> list[Block]:
    told = []
    for arm in ("adult_medicine", "pediatrics", "experts", "mmedexpert"):
        a, c = _topic(run, arm, adult), _topic(run, arm, child)
        if arm in run.arms and a is not None and c is not None:
            told.append(f"{run.title(arm)}: {_plain(a)} % on adults, {_plain(c)} % on children")
    return [Text("; ".join(told) + ".", lead="What the merge keeps.")] if told else []


def _by(run: Run, arm: str, key: str) -> Mapping[str, Any]:
    return run.scores(arm, "test").get(key) or {}


def _accuracy(run: Run, arm: str, specialty: str) -> float | None:
    value = number((_by(run, arm, "by_specialty").get(specialty) or {}).get("accuracy"))
    return None if value is None else 100 * value


def _topic(run: Run, arm: str, topic: str) -> float | None:
    value = number((_by(run, arm, "by_topic").get(topic) or {}).get("accuracy"))
    return None if value is None else 100 * value


def _home(run: Run, arm: str) -> str:
    """The specialty that a specialist was trained on; `` when it had several."""
    adapter = run.params.adapt.items.get(run.params.predict.arms[arm].adapter.name)
    return adapter.specialties[0] if adapter and len(adapter.specialties) == 1 else ""


def _gap(adult: float | None, child: float | None) -> str:
    return points(None if adult is None or child is None else (adult - child) / 100)


def _plain(value: float | None) -> str:
    return percent(None if value is None else value / 100)
