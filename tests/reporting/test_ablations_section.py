from pathlib import Path

from grandrounds import files
from grandrounds.params import load
from grandrounds.reporting.blocks import Table
from grandrounds.reporting.collect import Run
from grandrounds.reporting.sections import ablations

ROOT = Path(__file__).resolve().parents[2]


def measure(mean: float, **more: object) -> dict:
    return {"mean": mean, "low": mean - 0.03, "high": mean + 0.03, "by_seed": [mean, mean], "sd": 0.0, **more}


def test_gains_stand_with_interval_and_seeds_and_the_selection_split_is_left_out(tmp_path: Path) -> None:
    gain = {"difference": 0.1, "low": 0.05, "high": 0.15, "by_seed": [0.09, 0.11], "sd": 0.01, "shown": "better"}
    arms = {
        "without": {"n": 40, "groups": 20, "accuracy": measure(0.5), "reasoning": measure(0.2)},
        "with": {"n": 40, "groups": 20, "accuracy": measure(0.6, gain=gain), "reasoning": measure(0.3, gain=gain)},
    }
    found = {"name": "mine", "asks": "?", "claim": "c", "against": "without", "seeds": 2}
    files.write_json(tmp_path / "reports/ablations/mine.json", {**found, "splits": {"val": arms, "test": arms}})
    blocks = ablations.section(Run(tmp_path, load(ROOT / "params.yaml"))).blocks
    tables = [block for block in blocks if isinstance(block, Table)]
    assert [table.title for table in tables] == ["mine on test"]
    against, changed = (row.cells for row in tables[0].rows)
    assert against[3] == "(against)" and changed[3] == "+10.0 [+5.0, +15.0]" and changed[4] == "+9.0, +11.0"
    assert changed[5] == "better" and len(changed) == len(tables[0].columns) == len(ablations.COLUMNS)
