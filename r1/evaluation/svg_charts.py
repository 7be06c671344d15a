"""Line charts as inline SVG: no script, no files, colours taken from the page.

The page's style sheet colours the classes `grid`, `axis`, `raw` and `line`, so one
drawing serves light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup, escape

from r1.evaluation.run_report.curves import Curve

WIDTH, HEIGHT = 340, 180
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 10, 24
MAX_DRAWN_POINTS = 400
MAX_HOVER_POINTS = 60

# Below it, steps between ticks would round to zero.
_SMALLEST = 1e-300

Points = Sequence[tuple[float, float]]


def line_chart(curve: Curve) -> Markup:
    """One curve with axes; hovering a point shows its step and value."""
    x_low, x_high = curve.points[0][0], max(curve.points[-1][0], curve.points[0][0] + 1)
    ticks_y = _value_ticks(curve)
    y_low, y_high = ticks_y[0], ticks_y[-1]

    def place(point: tuple[float, float]) -> tuple[float, float]:
        x = LEFT + (point[0] - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)
        y = HEIGHT - BOTTOM - (point[1] - y_low) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM)
        return round(x, 1), round(min(max(y, TOP), HEIGHT - BOTTOM), 1)

    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(curve.kind.title)}">'
    ]
    for tick in ticks_y:
        y = place((x_low, tick))[1]
        label = format_value(tick, curve.kind.format)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(
            f'<text class="axis" x="{LEFT - 6}" y="{y + 3.5}" text-anchor="end">{label}</text>'
        )
    for tick in nice_ticks(x_low, x_high, 5):
        if x_low <= tick <= x_high:
            parts.append(_text(place((tick, y_low))[0], HEIGHT - 7, f"{tick:g}", "middle"))
    if curve.smooth != curve.points:
        parts.append(_polyline("raw", [place(point) for point in _thin(curve.points)]))
    parts.append(_polyline("line", [place(point) for point in _thin(curve.smooth)]))
    end_x, end_y = place(curve.smooth[-1])
    parts.append(f'<circle class="end" cx="{end_x}" cy="{end_y}" r="3"/>')
    for point in _thin(curve.smooth, MAX_HOVER_POINTS):
        label = f"step {point[0]:g}: {format_value(point[1], curve.kind.format)}"
        parts.append(_hover_circle(place(point), label))
    return Markup("".join([*parts, "</svg>"]))


def _value_ticks(curve: Curve) -> list[float]:
    """Ticks around the values; spikes beyond the middle 98% of raw values are cut off."""
    raw = sorted(value for _, value in curve.points)
    cut = len(raw) // 100
    values = [*raw[cut : len(raw) - cut], *(value for _, value in curve.smooth)]
    low, high = min(values), max(values)
    if low == high == 0:
        return [0.0, 0.5, 1.0]
    if curve.kind.format == "percent" and high > 0.5:
        high = max(high, 1.0)
    # Small measurements start at zero, so that noise does not look like a mountain.
    if low > 0 and low < 0.6 * high:
        low = 0.0
    return nice_ticks(low, high, 4)


def nice_ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten) that enclose [low, high]."""
    size = max(abs(low), abs(high))
    if high - low <= max(1e-12 * size, _SMALLEST):  # flat, but for rounding
        margin = 0.1 * size if size > _SMALLEST else 1.0
        low, high = low - margin, high + margin
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, last + 1)]


def format_value(value: float, format: str) -> str:
    """A number as short as an axis wants it: 45%, 1.2k, 3.1e-06."""
    if format == "percent":
        return f"{value * 100:.4g}%"
    if value != 0 and abs(value) < 1e-3:
        return f"{value:.2g}"
    return f"{value / 1000:.4g}k" if abs(value) >= 10_000 else f"{round(value, 6):.4g}"


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text class="axis" x="{x}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _hover_circle(center: tuple[float, float], label: str) -> str:
    x, y = center
    return f'<circle class="hover" cx="{x}" cy="{y}" r="6"><title>{escape(label)}</title></circle>'


def _polyline(style: str, points: Points) -> str:
    return f'<polyline class="{style}" points="{" ".join(f"{x},{y}" for x, y in points)}"/>'


def _thin(points: Points, limit: int = MAX_DRAWN_POINTS) -> Points:
    """At most about `limit` points, the last always among them."""
    stride = max(1, math.ceil(len(points) / limit))
    return [*points[:-1:stride], points[-1]]
