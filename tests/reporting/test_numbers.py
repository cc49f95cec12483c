import pytest
from hypothesis import given
from hypothesis import strategies as st

from grandrounds.reporting import numbers
from grandrounds.reporting.numbers import MISSING

UNKNOWN = [None, float("nan"), float("inf"), "0.5", True, [], {}]


@pytest.mark.parametrize("value", UNKNOWN)
def test_what_is_not_a_number_is_a_dash_never_zero(value):
    printers = (numbers.percent, numbers.points, numbers.count, numbers.decimal, numbers.duration, numbers.scientific)
    assert {printer(value) for printer in printers} == {MISSING}
    assert numbers.estimate({"accuracy": value, "low": 0.1, "high": 0.2}) == MISSING
    assert numbers.verdict({"difference": 0.1, "low": value, "high": 0.2}) == MISSING
    assert "[" not in numbers.difference({"difference": 0.1, "low": 0.0, "high": value})


@given(st.floats(-1, 1), st.floats(0, 1), st.floats(0, 1))
def test_better_and_worse_only_when_the_interval_excludes_zero(middle, below, above):
    low, high = middle - below, middle + above
    shown = numbers.verdict({"difference": middle, "low": low, "high": high})
    assert (shown == "better") == (low > 0) and (shown == "worse") == (high < 0)
    assert (shown == "no difference shown") == (low <= 0 <= high)


def test_printing():
    assert numbers.estimate({"accuracy": 0.6125, "low": 0.58, "high": 0.6449}) == "61.3 [58.0, 64.5]"
    assert numbers.difference({"difference": -0.0531, "low": -0.08, "high": 0.0}) == "−5.3 [−8.0, 0.0]"
    assert numbers.points(-0.0001) == "0.0"
    assert (
        numbers.duration(59.96) == "60.0 s"
        and numbers.duration(61) == "1 min 01 s"
        and numbers.duration(3720) == "1 h 02 min"
    )
    assert numbers.words("oncology_surgery") == "oncology & surgery"
