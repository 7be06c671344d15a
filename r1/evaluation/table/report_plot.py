"""The benchmark table as a picture (extra `report`: matplotlib)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from r1.evaluation.html_pages import format_count, printable
from r1.evaluation.run_report.plots import BLUE, GREY, ORANGE, save_figure, style_axes
from r1.evaluation.table.report_lines import TableLine

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Beside the points: x in widths of the axes, the column's title, and its text.
_REFERENCE = "DeepSeek R1"
_COLUMNS = ((1.1, "ours"), (1.28, _REFERENCE), (1.46, "n / asked"))


def save_table_plot(model: str, lines: Sequence[TableLine], path: Path) -> Path:
    """Draw the measured lines: ours with its 95% interval by question among the published.

    Ratings have no place on the axis of percent and are given as numbers. Needs matplotlib
    (see `plots.has_matplotlib`).
    """
    from matplotlib.figure import Figure

    measured = [line for line in lines if not line.not_run]
    figure = Figure(figsize=(11, 1.5 + 0.36 * len(measured)))
    inch = 1 / figure.get_figheight()
    axes = figure.add_axes((0.25, 0.6 * inch, 0.47, 1 - 1.45 * inch))
    for place, line in enumerate(measured):
        _draw_line(axes, place, line)
    for place, title in _COLUMNS:
        _text(axes, place, -0.9, title, color=GREY)
    _separate_groups(axes, measured)
    axes.set(xlim=(0, 100), ylim=(len(measured) - 0.4, -0.6))
    axes.set_yticks(range(len(measured)), [_plain(line.name) for line in measured])
    style_axes(axes)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    handles, names = axes.get_legend_handles_labels()
    unique = dict(zip(names, handles, strict=True))
    figure.legend(
        list(unique.values()),
        list(unique),
        loc="upper left",
        bbox_to_anchor=(0.24, 1 - 0.32 * inch),
        ncols=3,
        frameon=False,
        fontsize=8,
    )
    figure.text(0.02, 1 - 0.28 * inch, _plain(model), fontsize=12, weight="bold")
    return save_figure(figure, path)


def _draw_line(axes: Axes, place: int, line: TableLine) -> None:
    scores = {name: score for name, score in line.published.items() if score is not None}
    reference = scores.pop(_REFERENCE, None)
    if line.unit == "percent":
        if scores:
            axes.plot(
                list(scores.values()),
                [place] * len(scores),
                "|",
                color=GREY,
                markersize=9,
                label="other published scores",
            )
        if reference is not None:
            axes.plot(reference, place, "D", color=ORANGE, fillstyle="none", label=_REFERENCE)
        if line.interval is not None:
            axes.plot(line.interval, [place] * 2, color=BLUE, linewidth=6, alpha=0.3)
        if line.value is not None:
            axes.plot(line.value, place, "o", color=BLUE, label="ours, 95% interval by question")
    error = "" if line.error_by_question is None else f" ± {line.shown(line.error_by_question)}"
    counts = f"{format_count(line.num_present)} / {format_count(line.num_asked)}"
    texts = (f"{line.shown(line.value)}{error}", line.shown(reference), counts)
    for (x, _), text, color in zip(_COLUMNS, texts, (BLUE, ORANGE, GREY), strict=True):
        _text(axes, x, place, text, color=color)


def _separate_groups(axes: Axes, lines: Sequence[TableLine]) -> None:
    """A pale rule between English, code, maths and Chinese."""
    start = 0
    for _, group in groupby(lines, key=lambda line: line.group):
        if start:
            axes.axhline(start - 0.5, color=GREY, alpha=0.35, linewidth=0.8)
        start += len(list(group))


def _text(axes: Axes, x: float, place: float, text: str, color: str) -> None:
    transform = axes.get_yaxis_transform()
    axes.text(
        x, place, text, transform=transform, fontsize=8.5, va="center", ha="center", color=color
    )


def _plain(text: str) -> str:
    """A dollar would start a formula."""
    return printable(text).replace("$", r"\$")
