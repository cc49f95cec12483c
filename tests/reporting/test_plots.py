import re
import xml.etree.ElementTree as tree
from itertools import pairwise

import pytest
from fixture import HOSTILE
from hypothesis import given
from hypothesis import strategies as st

from grandrounds.reporting import graph, plots
from grandrounds.reporting.drawing import blend, ticks


@given(st.floats(-1e6, 1e6), st.floats(0, 1e6), st.integers(2, 8))
def test_ticks_cover_the_range_in_even_steps(low, spread, wanted):
    marks = ticks(low, low + spread, wanted)
    slack = 1e-6 * max(1.0, abs(low), spread)
    assert marks[0] <= low + slack and marks[-1] >= low + spread - slack
    assert 2 <= len(marks) <= wanted * 2 + 2 and marks == sorted(set(marks))


@given(st.lists(st.floats(0, 200), min_size=1, max_size=7))
def test_labels_are_moved_apart_in_their_order(places):
    moved = plots._apart(places, 12, 0, 400)
    ranked = [moved[index] for index in sorted(range(len(places)), key=lambda index: (places[index], index))]
    assert all(b - a >= 12 - 1e-9 for a, b in pairwise(ranked))


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=30), st.integers(1, 10))
def test_running_mean_looks_only_back(values, window):
    got = plots.running_mean(values, window)
    for index, mean in enumerate(got):
        near = values[max(0, index - window + 1) : index + 1]
        assert mean == pytest.approx(sum(near) / len(near), abs=1e-6)


def test_every_drawing_is_well_formed_with_hostile_names():
    drawings = [
        plots.bars(HOSTILE, [3, 0, 5], (1, 1), HOSTILE, HOSTILE),
        plots.lines(HOSTILE, [(HOSTILE, [1, 2], [0.5, 0.5]), ("b", [1, 2], [0, 1])], HOSTILE, smooth=True),
        plots.dots(HOSTILE, [plots.Dot(HOSTILE, 5, 4, 6, text=HOSTILE), plots.Dot("none", None)], "x", 0.0),
        plots.heat(HOSTILE, [HOSTILE], [HOSTILE, "b"], [[1.0, None]], (0, 1)),
        graph.layered(
            HOSTILE, {"a": graph.Box(HOSTILE, HOSTILE, "data"), "b": graph.Box("b", "", "data")}, [("a", "b")]
        ),
    ]
    for drawing in drawings:
        root = tree.fromstring(str(drawing))  # unescaped text would break the XML
        names = {element.tag for element in root.iter()}
        assert names <= {"svg", "rect", "line", "text", "polyline", "path", "circle"}
        assert not [key for element in root.iter() for key in element.attrib if key.startswith("on")]
        assert "nan" not in str(drawing).lower().replace(HOSTILE.lower(), "")


def test_a_flat_curve_and_equal_dots_have_a_scale():
    assert "polyline" in plots.lines("flat", [("a", [1, 2, 3], [0.0, 0.0, 0.0])], "step", from_zero=True)
    assert "not in this run" in plots.dots("none", [plots.Dot("a", None)], "%")
    assert "circle" in plots.dots("same", [plots.Dot("a", 50.0), plots.Dot("b", 50.0)], "%")


def test_heat_prints_every_value_and_frames_home():
    drawing = str(plots.heat("m", ["a", "b"], ["x", "y"], [[1.0, -0.5], [None, 0.25]], (-1, 1), 2, True, [(0, 1)]))
    assert re.findall(r">(−?\d\.\d\d)<", drawing) == ["1.00", "−0.50", "0.25"]
    assert drawing.count('class="frame"') == 1 and drawing.count('class="blank"') == 1


@given(st.floats(0, 1))
def test_text_on_a_cell_has_contrast(share):
    def light(colour: tuple[int, ...]) -> float:
        linear = [c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    colour, pale = blend(plots.WHITE, plots.BLUE, share)
    ground = light(tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5)))
    text = light((255, 255, 255) if pale else (29, 35, 41))
    assert (max(ground, text) + 0.05) / (min(ground, text) + 0.05) > 3.5


def test_layers_put_every_step_below_what_it_reads_and_end_on_a_cycle():
    edges = [("a", "b"), ("b", "c"), ("a", "c"), ("c", "d")]
    level = graph.layers("abcd", edges)
    assert all(level[start] < level[end] for start, end in edges)
    assert max(graph.layers("ab", [("a", "b"), ("b", "a")]).values()) <= 2
