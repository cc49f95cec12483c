"""The table of paired tests, of sampled answers and of the mean over benchmarks."""

from pathlib import Path

from grandrounds.params import load
from grandrounds.reporting.blocks import Table, Text
from grandrounds.reporting.collect import Run
from grandrounds.reporting.sections import significance

ROOT = Path(__file__).resolve().parents[2]
TEST = {"difference": -0.05, "low": -0.09, "high": -0.01, "wins": 40, "losses": 90, "p": 0.02, "p_holm": 0.2,
        "detectable": 0.067, "ruling": "no difference shown"}  # fmt: skip


def tables(scores: dict) -> list[Table]:
    run = Run(Path(), load(ROOT / "params.yaml"), metrics={"judge": scores})
    return [block for block in significance.section(run).blocks if isinstance(block, Table)]


def test_every_test_stands_with_both_p_values_and_its_ruling() -> None:
    scores = {"base": {"test": {"accuracy": 0.5}}, "sft": {"test": {"accuracy": 0.6, "delta_base": TEST}},
              "rarl": {"test": {"accuracy": 0.7, "delta_base": {**TEST, "p": 0.0, "p_holm": None}}}}  # fmt: skip
    (against,) = tables(scores)
    split, *rows = (row.cells for row in against.rows)
    assert split == ["test"] and {len(row) for row in rows} == {len(against.columns)}
    found = {tuple(row[1:]) for row in rows}
    gap = "−5.0 [−9.0, −1.0]"
    assert (gap, "40 / 90", "0.0200", "0.2000", "+6.7", "no difference shown") in found
    assert (gap, "40 / 90", "< 0.0001", "–", "+6.7", "no difference shown") in found


def test_sampled_answers_and_the_mean_over_benchmarks_stand_where_they_were_asked_for() -> None:
    sampled = {"samples": 4, "pass_at": {"1": 0.5, "2": 0.6, "4": 0.7}, "majority": 0.55, "majority_low": 0.5,
               "majority_high": 0.6}  # fmt: skip
    macro = {"sets": 3, "accuracy": 0.4, "low": 0.3, "high": 0.5, "unparsed_rate": 0.01}
    drawn, mean = tables({"base": {"test": {"accuracy": 0.5}, "test_sampled": sampled, "macro": macro}})
    assert drawn.columns[2:5] == ["pass@1", "pass@2", "pass@4"]
    assert drawn.rows[0].cells[1:] == ["4", "50.0", "60.0", "70.0", "55.0 [50.0, 60.0]"]
    assert mean.rows[0].cells[1:] == ["3", "40.0 [30.0, 50.0]", "1.0"]


def test_a_run_without_tests_says_so() -> None:
    run = Run(Path(), load(ROOT / "params.yaml"), metrics={"judge": {}})
    (told,) = significance.section(run).blocks
    assert isinstance(told, Text) and "not in this run" in told.text
