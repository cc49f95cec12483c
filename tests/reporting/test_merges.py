"""What the report says of merges: who fights where, what merging costs each specialty, what a search saw."""

import json
from typing import Any

from grandrounds.records import SPECIALTIES
from grandrounds.reporting.collect import collect
from grandrounds.reporting.sections import merges, merging


def search() -> dict[str, Any]:
    """Of three trials: the item's own, one that loses pediatrics, and the one picked."""
    base = dict.fromkeys(SPECIALTIES, 0.4)
    own = dict.fromkeys(SPECIALTIES, 0.7)
    trials = [
        {"number": 0, "method": {"type": "ties", "density": 0.5, "scale": 1.0}, "scores": own | {"pediatrics": 0.6}},
        {"number": 1, "method": {"type": "linear", "scale": 1.0}, "scores": own | {"pediatrics": 0.41}},
        {"number": 2, "method": {"type": "knots", "density": 0.3, "scale": 1.2}, "scores": own | {"pediatrics": 0.65}},
    ]
    for trial in trials:
        trial |= {"macro": sum(trial["scores"].values()) / len(SPECIALTIES), "frontier": trial["number"] == 2}
    return {"base": base, "specialists": own, "trials": trials, "picked": 2, "why": "highest mean of 2 trials"}


def test_every_specialty_before_and_after_by_method_and_the_short_ones_named(written) -> None:
    run = collect(written.root, written.params)
    homes = [name for name, arm in run.params.predict.arms.items() if arm.family == "specialist"]
    for arm, accuracy in ((homes[0], 0.80), ("experts", 0.76), ("mmedexpert", 0.78)):
        for scores in run.metrics["judge"][arm]["test"]["by_specialty"].values():
            scores["accuracy"] = accuracy
    table, told = merges.before_and_after(run)
    assert len(table.rows) == len(homes) and table.columns[3].endswith(": ties")
    [first] = [row for row in table.rows if row.cells[2] == "80.0"]
    assert first.cells[3:5] == ["76.0 (−4.0)", "78.0 (−2.0)"]
    assert f"{first.cells[0]} in {run.title('experts')} (−4.0)" in told.text
    assert f"{first.cells[0]} in {run.title('mmedexpert')}" not in told.text


def test_the_frontier_and_the_pick_of_a_search(written) -> None:
    run = collect(written.root, written.params)
    run.metrics["merge/experts"]["search"] = search()
    [figure] = merges.searched(run, "experts")
    assert "framed: trial 2, picked for: highest mean of 2 trials" in figure.caption
    assert [row.cells[0] for row in figure.table.rows] == ["", "", "0", "1", "2"]
    assert [row.mark for row in figure.table.rows][-1] == "best" and "2: knots density 0.30" in figure.drawings[0]
    assert merges.searched(run, "unified") == []
    for key in search():
        run.metrics["merge/experts"]["search"] = json.loads(json.dumps(search())) | {key: None}
        merges.searched(run, "experts")  # a half-written record leaves a report


def test_who_fights_where_is_a_sentence_and_a_map(written) -> None:
    blocks = merging.section(collect(written.root, written.params)).blocks
    assert any(
        block.kind == "text" and "a specialist and another fight most, in layer 1." in block.text for block in blocks
    )
    maps = [block for block in blocks if block.kind == "figure" and "fight" in block.title]
    assert len(maps) == 2 and "null: " in maps[0].drawings[0] and "q_proj" in maps[0].drawings[1]
