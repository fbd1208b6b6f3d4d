"""Figures: round ticks around all values, what is beyond an end stands at it, well-formed whatever the names hold."""

from __future__ import annotations

import xml.etree.ElementTree as xml
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qkv._figure import Figure, doublings, linear, powers

SVG = "{http://www.w3.org/2000/svg}"
NUMBERS = st.lists(st.floats(-1e100, 1e100), min_size=1, max_size=5)


@given(NUMBERS)
@example([1e6, 1e6 + 1])
@example([-1e-300, 1e-300])
@example([1.0, 1.0 + 1e-11])
def test_a_linear_axis_holds_all_values(values: list[float]) -> None:
    axis = linear(values)
    slack = 1e-6 * (axis.high - axis.low)
    assert axis.low - slack <= min(values) <= max(values) <= axis.high + slack
    assert 3 <= len(axis.ticks) <= 9
    assert len({name for _, name in axis.ticks}) == len(axis.ticks)
    assert all(0 <= axis.share(value) <= 1 for value in values)


def test_ticks_are_round() -> None:
    assert [name for _, name in linear([0, 1]).ticks] == ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]
    assert [name for _, name in linear([7.0]).ticks] == ["2", "4", "6", "8", "10", "12"]
    assert [name for _, name in linear([0, 2e6]).ticks][-1] == "2e+06"
    assert [name for _, name in doublings([256, 300, 1024]).ticks] == ["1,024", "256"]
    assert [name for _, name in powers([5.0]).ticks] == ["1", "10"]


def test_a_figure_is_well_formed() -> None:
    figure = Figure("a < b", 'of "c" & d', linear([0, 1]), linear([0, 1]), "x & y", "z > 0")
    figure.band([(0, 0), (1, 0)], [(0, 1), (1, 1)], colour="value")
    figure.bars([(0.5, 0.2, 0.4)], colour="query")
    figure.line([(0, 0), (1, 5)], name="<line>", dashes="2 4", colour="ink")
    figure.line([(0.5, 0.5)], name="dot")
    figure.line([])
    root = xml.fromstring(figure.svg())
    counts = {tag: len(list(root.iter(SVG + tag))) for tag in ("polyline", "polygon", "circle")}
    assert counts == {"polyline": 1, "polygon": 1, "circle": 1}
    texts = [element.text for element in root.iter(SVG + "text")]
    assert {"a < b", 'of "c" & d', "x & y", "z > 0", "<line>", "dot"} <= set(texts)


def test_what_is_beyond_an_end_stands_at_it_and_names_stay_apart() -> None:
    figure = Figure("", "", linear([0, 1]), linear([0, 1]), "")
    assert figure.place(2, -1) == figure.place(1, 0)
    for height in (0.5, 0.5, 0.51, 0.0):
        figure.line([(0, 0), (1, height)], name="name")
    heights = sorted(float(t.get("y", 0)) for t in xml.fromstring(figure.svg()).iter(SVG + "text") if t.text == "name")
    assert min(b - a for a, b in pairwise(heights)) == pytest.approx(18, abs=0.2)


def test_names_stand_in_the_order_in_which_the_lines_would_meet_the_margin() -> None:
    """The steep line ends early, below the end of the other one; its name belongs above."""
    figure = Figure("", "", linear([0, 1]), linear([0, 1]), "")
    figure.line([(0, 0), (1, 0.9)], name="long")
    figure.line([(0, 0), (0.5, 0.8)], name="steep")
    at = {t.text: float(t.get("y", 0)) for t in xml.fromstring(figure.svg()).iter(SVG + "text")}
    assert at["steep"] < at["long"]
