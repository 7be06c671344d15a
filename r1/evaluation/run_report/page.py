"""The report of a run as one HTML file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from r1.evaluation.html_pages import pretty, render_page
from r1.evaluation.run_report.claims import ClaimResult
from r1.evaluation.run_report.curves import curves_of, phase_seconds
from r1.evaluation.run_report.readings import Reply, readings_of_training, readings_through_stages
from r1.evaluation.run_report.results import RunResults, StageResults
from r1.evaluation.svg_charts import format_value, line_chart

# The page's style has this many colours for phases, and grey for all others.
OTHER_COLOR = 7


def render_html(
    run: RunResults,
    report: Mapping[str, Any],
    claims: Sequence[ClaimResult],
    notes: Sequence[str] = (),
) -> str:
    """The whole page as text; `report` is what report.json holds."""
    colors = _phase_colors(run, report)
    return render_page(
        "report.html.jinja",
        run=run,
        report=report,
        claims=claims,
        notes=notes,
        num_holding=sum(result.holds is True for result in claims),
        stages=[_StageView.of(stage, report["stages"][stage.name], colors) for stage in run.stages],
        majority_names=_majority_names(report),
        longest_seconds=max(
            (stage["total_seconds"] or 0.0 for stage in report["stages"].values()), default=0.0
        ),
        most_bytes=max((stage.peak_rss_bytes or 0 for stage in run.stages), default=0),
        readings=readings_through_stages(run),
    )


@dataclass(frozen=True)
class _Phase:
    name: str
    seconds: float
    share: float
    color: int


@dataclass(frozen=True)
class _Chart:
    title: str
    note: str
    last: str
    svg: Markup
    is_secondary: bool


@dataclass(frozen=True)
class _StageView:
    """What the page shows of one stage; `result` is its row of report.json."""

    stage: StageResults
    result: Mapping[str, Any]
    majority: float | None
    charts: list[_Chart]
    phases: list[_Phase]
    replies: list[Reply]
    config: str

    @classmethod
    def of(
        cls, stage: StageResults, result: Mapping[str, Any], colors: Mapping[str, int]
    ) -> _StageView:
        charts = [
            _Chart(
                curve.kind.title,
                curve.kind.note,
                format_value(curve.last, curve.kind.format),
                line_chart(curve),
                curve.kind.is_secondary,
            )
            for curve in curves_of(stage.metrics)
        ]
        return cls(
            stage=stage,
            result=result,
            majority=_majority(result),
            charts=charts,
            phases=_phases(stage, result, colors),
            replies=readings_of_training(stage),
            config=pretty(stage.config) if stage.config else "",
        )


def _phase_seconds(stage: StageResults, result: Mapping[str, Any]) -> dict[str, float]:
    """Seconds by phase of training, and of measuring the stage's model."""
    seconds = phase_seconds(stage.metrics)
    if result["seconds"] is not None and result["total_seconds"] > result["seconds"]:
        seconds["evaluation"] = result["total_seconds"] - result["seconds"]
    return seconds


def _phase_colors(run: RunResults, report: Mapping[str, Any]) -> dict[str, int]:
    """One colour for each of the longest phases, the same in every stage."""
    totals: Counter[str] = Counter()
    for stage in run.stages:
        totals.update(_phase_seconds(stage, report["stages"][stage.name]))
    return {name: color for color, (name, _) in enumerate(totals.most_common(OTHER_COLOR))}


def _phases(
    stage: StageResults, result: Mapping[str, Any], colors: Mapping[str, int]
) -> list[_Phase]:
    """Shares of the stage's time; what no phase accounts for is `other`."""
    seconds = _phase_seconds(stage, result)
    total = max(result["total_seconds"] or 0.0, sum(seconds.values()))
    if not total:
        return []
    kept = {name: seconds[name] for name in colors if name in seconds}
    kept["other"] = total - sum(kept.values())
    return [
        _Phase(name, value, value / total, colors.get(name, OTHER_COLOR))
        for name, value in kept.items()
    ]


def _majority(result: Mapping[str, Any]) -> float | None:
    return next((v for key, v in result.items() if key.startswith("cons_at_")), None)


def _majority_names(report: Mapping[str, Any]) -> str:
    """`cons@8`, or all names where stages have different numbers of samples."""
    keys = {key for stage in report["stages"].values() for key in stage if "cons_at_" in key}
    return ", ".join(sorted(key.replace("_at_", "@") for key in keys)) or "cons@k"
