"""What merging did to every specialty: before and after, by method, and what a search for a merge saw."""

from typing import Any

from grandrounds.reporting.blocks import Block, Figure, Row, Table, Text
from grandrounds.reporting.collect import Run
from grandrounds.reporting.numbers import MISSING, count, decimal, number, percent, points, words
from grandrounds.reporting.plots import heat

NEAR = 0.03  # of its own specialist's accuracy: what a merge should hold


def before_and_after(run: Run, split: str = "test") -> list[Block]:
    """Each specialty under base, its own specialist, and every merge; then which are more than 3 points under."""
    homes = {home: arm for arm in run.arms if (home := _home(run, arm))}
    merges = [arm for arm in run.arms if run.params.predict.arms[arm].family == "merge"]
    if not homes or not merges:
        return []
    rows, short = [], []
    for home, arm in homes.items():
        own = _accuracy(run, arm, split, home)
        cells = [words(home), percent(_accuracy(run, "base", split, home)), percent(own)]
        for merge in merges:
            value = _accuracy(run, merge, split, home)
            change = None if value is None or own is None else value - own
            cells.append(MISSING if value is None else f"{percent(value)} ({points(change)})")
            if change is not None and change < -NEAR:
                short.append(f"{words(home)} in {run.title(merge)} ({points(change)})")
        rows.append(Row(cells))
    columns = [
        "specialty",
        "base, %",
        "own specialist, %",
        *(f"{run.title(arm)}: {_method(run, arm)}" for arm in merges),
    ]
    table = Table(
        f"Every specialty before and after merging, accuracy on {split}", columns, rows,
        caption="In brackets: points against the specialty's own specialist.",
    )  # fmt: skip
    told = (
        f"More than {100 * NEAR:.0f} points under their own specialist: {'; '.join(short)}."
        if short
        else f"Every specialty is within {100 * NEAR:.0f} points of its own specialist."
    )
    return [
        table,
        Text(told + " Single figures without intervals: small gaps may be chance.", lead="What merging costs."),
    ]


def searched(run: Run, name: str) -> list[Block]:
    """The trials of a search, by specialty on the validation split, with the frontier and the one that was picked."""
    found = (run.metrics.get(f"merge/{name}") or {}).get("search") or {}
    trials = [each for each in found.get("trials") or [] if each and each.get("method") and each.get("scores")]
    specialties = sorted({home for each in trials for home in each["scores"]})
    front = [each for each in trials if each.get("frontier")]
    if not front:
        return []
    values = [[_hundred(each["scores"].get(home)) for home in specialties] for each in front]
    known = [value for row in values for value in row if value is not None] or [0.0]
    picked, why = found.get("picked"), found.get("why") or MISSING
    framed = [
        (row, column)
        for row, each in enumerate(front)
        for column in range(len(specialties))
        if each.get("number") == picked
    ]
    labels = [f"{count(each.get('number'))}: {_settings(each['method'])}" for each in front]
    limits = (min(known), max(known))
    drawing = heat("Accuracy on val, %", labels, [*map(words, specialties)], values, limits, framed=framed)
    rows = [
        _row("", "base", None, found.get("base") or {}, specialties),
        _row("", "own specialist", None, found.get("specialists") or {}, specialties),
    ]
    for each in trials:
        number_, mark = each.get("number"), "best" if each.get("number") == picked else ""
        rows.append(
            _row(count(number_), _settings(each["method"]), each.get("macro"), each["scores"], specialties, mark)
        )
    columns = ["trial", "method", "mean, %", *(f"{words(home)}, %" for home in specialties)]
    return [
        Figure(
            f"The search for the merge “{words(name)}”: its frontier by specialty",
            [drawing],
            f"Trials that no other beats in one specialty without losing in another; framed: trial {count(picked)}, "
            f"picked for: {why}. The split was looked at once for each of {len(trials)} trials, so the best is "
            "flattered: judge it on test.",
            Table("All trials on val", columns, rows, align="rl"),
        )
    ]


def _row(number_: str, label: str, macro: Any, scores: dict[str, Any], specialties: list[str], mark: str = "") -> Row:
    return Row([number_, label, percent(macro), *(percent(scores.get(home)) for home in specialties)], mark)


def _settings(method: dict[str, Any]) -> str:
    own = [f"{key} {decimal(method[key])}" for key in ("density", "scale") if key in method]
    return " ".join([words(str(method.get("type", MISSING))), *own])


def _hundred(value: Any) -> float | None:
    known = number(value)
    return None if known is None else 100 * known


def _method(run: Run, arm: str) -> str:
    name = run.params.predict.arms[arm].adapter.name
    method = (run.metrics.get(f"merge/{name}") or {}).get("method")
    return words(method) if isinstance(method, str) else MISSING


def _home(run: Run, arm: str) -> str:
    """The specialty that a specialist was trained on; "" when it had several, or is none."""
    if run.params.predict.arms[arm].family != "specialist":
        return ""
    adapter = run.params.adapt.items.get(run.params.predict.arms[arm].adapter.name)
    return adapter.specialties[0] if adapter and len(adapter.specialties) == 1 else ""


def _accuracy(run: Run, arm: str, split: str, specialty: str) -> float | None:
    return number(((run.scores(arm, split).get("by_specialty") or {}).get(specialty) or {}).get("accuracy"))
