"""The report's curves as PNG files, for papers and slides (extra `report`: matplotlib)."""

from __future__ import annotations

import importlib.util
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from r1.evaluation.run_report.curves import Curve, curves_of
from r1.evaluation.run_report.results import RunResults, StageResults

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MISSING_MATPLOTLIB = "no PNG plots: matplotlib is not installed (pip install 'r1[report]')"

BLUE, ORANGE, GREY = "#2f6bd8", "#c2571a", "#8a8f98"
_COLUMNS = 3
_PLAIN = re.compile(r"[^A-Za-z0-9_.-]")


def has_matplotlib() -> bool:
    """Whether the plots can be drawn."""
    return importlib.util.find_spec("matplotlib") is not None


def save_plots(run: RunResults, folder: Path) -> list[Path]:
    """Draw `stages.png` and one `<stage>.png` of curves for each trained stage.

    Returns the files. Needs matplotlib (see `has_matplotlib`).
    """
    folder.mkdir(parents=True, exist_ok=True)
    evaluated = [stage for stage in run.stages if (stage.evaluation or {}).get("pass_at_1")]
    files = [save_figure(_stages_figure(evaluated), folder / "stages.png")] if evaluated else []
    for stage in run.stages:
        curves = curves_of(stage.metrics)
        if curves:
            name = _PLAIN.sub("_", stage.name)
            files.append(save_figure(_curves_figure(stage.name, curves), folder / f"{name}.png"))
    return files


def _stages_figure(stages: Sequence[StageResults]) -> Figure:
    """pass@1 with its interval, cons@k, and response length, stage by stage."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 1.2 + 0.42 * len(stages)), layout="constrained")
    scores, lengths = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    for row, stage in enumerate(stages):
        result: dict[str, Any] = dict(stage.evaluation or {})
        low, high = result.get("pass_at_1_ci95") or (result["pass_at_1"],) * 2
        scores.plot(
            [low, high], [row, row], color=BLUE, linewidth=6, alpha=0.3, solid_capstyle="butt"
        )
        scores.plot(result["pass_at_1"], row, "o", color=BLUE, label="pass@1, 95% interval")
        majority = next((v for key, v in result.items() if key.startswith("cons_at_")), None)
        if majority is not None:
            scores.plot(majority, row, "D", color=ORANGE, fillstyle="none", label="majority vote")
        lengths.barh(row, result.get("mean_response_tokens") or 0.0, color=GREY, height=0.5)
    handles, labels = scores.get_legend_handles_labels()
    scores.legend(
        *zip(
            *{lab: (h, lab) for h, lab in zip(handles, labels, strict=True)}.values(), strict=True
        ),
        loc="lower right",
        frameon=False,
    )
    scores.set(xlim=(0, 1.02), title="Held-out accuracy")
    scores.set_yticks(range(len(stages)), [stage.name for stage in stages])
    scores.invert_yaxis()
    lengths.set(title="Response length (tokens, mean)")
    for axes in (scores, lengths):
        style_axes(axes)
    return figure


def _curves_figure(name: str, curves: Sequence[Curve]) -> Figure:
    from matplotlib.figure import Figure

    num_rows = math.ceil(len(curves) / _COLUMNS)
    figure = Figure(figsize=(4 * _COLUMNS, 2.6 * num_rows + 0.4), layout="constrained")
    figure.suptitle(name)
    grid = figure.subplots(num_rows, _COLUMNS, squeeze=False)
    for axes, curve in zip(grid.flat, curves, strict=False):
        if curve.smooth != curve.points:
            axes.plot(*zip(*curve.points, strict=True), color=BLUE, alpha=0.25, linewidth=1)
        axes.plot(*zip(*curve.smooth, strict=True), color=BLUE, linewidth=1.8)
        title = f"{curve.kind.title} ({curve.kind.note})" if curve.kind.note else curve.kind.title
        axes.set_title(title, fontsize=10)
        style_axes(axes)
    for axes in list(grid.flat)[len(curves) :]:
        axes.set_axis_off()
    return figure


def style_axes(axes: Axes) -> None:
    """The look of every plot: no box, a pale grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.tick_params(labelsize=8)


def save_figure(figure: Figure, path: Path) -> Path:
    """Write a PNG; its path."""
    figure.savefig(path, dpi=130)
    return path
