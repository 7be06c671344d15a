from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from r1.evaluation.run_report.curves import CURVE_KINDS, Curve, curves_of, phase_seconds, smooth
from r1.evaluation.svg_charts import HEIGHT, WIDTH, format_value, line_chart, nice_ticks


def test_curves_are_found_by_their_keys() -> None:
    rows = [{"step": i, "reward": i / 2, "entropy": 1.0, "unknown": 3} for i in (1, 2, 3)]
    curves = {curve.kind.name: curve for curve in curves_of(rows)}
    assert list(curves) == ["reward", "entropy"]
    assert curves["reward"].points == ((1, 0.5), (2, 1.0), (3, 1.5))


def test_what_is_no_number_is_left_out() -> None:
    values = [1.0, None, float("nan"), float("inf"), True, "x", 2.0]
    (curve,) = curves_of([{"step": i, "loss": value} for i, value in enumerate(values)])
    assert curve.points == ((0, 1.0), (6, 2.0))
    assert curves_of([{"step": 1, "loss": 1.0}]) == []  # one point is no curve


def test_smoothing_keeps_constants_and_lines_and_does_not_lag() -> None:
    constant = [(float(i), 3.0) for i in range(100)]
    assert smooth(constant) == tuple(constant)
    line = [(float(i), 2.0 * i) for i in range(100)]
    assert smooth(line)[50] == (50.0, pytest.approx(100.0))
    assert smooth(line[:5]) == tuple(line[:5])  # a few steps are shown as they are


def test_phases_add_up_without_the_step_itself() -> None:
    rows = [{"time_generate": 1.0, "time_update": 3.0, "time_step": 4.5}] * 2
    assert phase_seconds(rows) == {"update": 6.0, "generate": 2.0}


@given(st.floats(-1e9, 1e9), st.floats(0, 1e9))
@example(0.0, 5e-324)
@example(1.0, 1e-15)
def test_ticks_enclose_the_values(low: float, extent: float) -> None:
    high = low + extent
    ticks = nice_ticks(low, high, 4)
    slack = 1e-6 * max(abs(low), abs(high), 1e-300)
    assert ticks[0] <= low + slack and ticks[-1] >= high - slack
    assert 2 <= len(ticks) <= 12


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([0.0, 0.5, 1.0], ["0%", "50%", "100%"]),
        ([0.0, 0.0, 0.0], ["0%", "50%", "100%"]),
    ],
)
def test_axis_of_a_share(values: list[float], labels: list[str]) -> None:
    kind = next(kind for kind in CURVE_KINDS if kind.name == "accuracy")
    points = tuple((float(i), value) for i, value in enumerate(values))
    chart = line_chart(Curve(kind, points, points))
    assert all(f">{label}<" in chart for label in labels)


@given(st.lists(st.floats(-1e12, 1e12), min_size=2, max_size=60))
def test_charts_are_well_formed_and_stay_inside(values: list[float]) -> None:
    (curve,) = curves_of([{"step": i, "loss": value} for i, value in enumerate(values)])
    root = ElementTree.fromstring(line_chart(curve))
    for circle in root.iter("circle"):
        assert 0 <= float(circle.attrib["cx"]) <= WIDTH
        assert 0 <= float(circle.attrib["cy"]) <= HEIGHT


@pytest.mark.parametrize(
    ("value", "style", "text"),
    [
        (0.4567, "percent", "45.67%"),
        (3.2e-7, "number", "3.2e-07"),
        (12_500, "number", "12.5k"),
        (0.1 + 0.2, "number", "0.3"),
        (0, "number", "0"),
    ],
)
def test_short_numbers(value: float, style: str, text: str) -> None:
    assert format_value(value, style) == text
