"""The report as one HTML file: no script, no other files, every text escaped.

A page shows what a model wrote, so nothing of it may run: jinja2 escapes all text,
and the page's own policy forbids scripts and requests.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from r1.evaluation.claims import ClaimResult
from r1.evaluation.curves import curves_of, phase_seconds
from r1.evaluation.readings import Reply, readings_of_training, readings_through_stages
from r1.evaluation.run_results import RunResults, StageResults
from r1.evaluation.svg_charts import format_value, line_chart

# Control characters have no place in HTML, and surrogates none in UTF-8.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")

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
    page = _template().render(
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
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", page)


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
            config=_pretty(stage.config) if stage.config else "",
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


@cache
def _template() -> Template:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(
        percent=format_percent,
        number=format_number,
        duration=format_duration,
        memory=format_memory,
        pretty=_pretty,
        claim_number=format_claim_number,
        verdict=format_verdict,
    )
    source = files("r1").joinpath("assets/report.html.jinja").read_text(encoding="utf-8")
    return environment.from_string(source)


def format_percent(value: float | None, digits: int = 1) -> str:
    """82.4% for 0.8244; what was not measured is a dash."""
    return "–" if value is None else f"{value * 100:.{digits}f}%"


def format_number(value: float | None, digits: int = 1) -> str:
    """1234.56 is 1,234.6; very small numbers keep two figures."""
    if value is None:
        return "–"
    if value != 0 and abs(value) < 10**-digits:
        return f"{value:.2g}"
    return f"{value:,.{digits}f}"


def format_duration(seconds: float | None) -> str:
    """8.2 s, 9 min 12 s, 3 h 05 min."""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def format_memory(num_bytes: float | None) -> str:
    """In units of 1000: 812 MB, 2.41 GB."""
    if not num_bytes:
        return "–"
    return f"{num_bytes / 1e9:.2f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.0f} MB"


def format_claim_number(value: float | None, unit: str) -> str:
    """A claim's value or bound in its own unit; a dash when not measured."""
    if value is None:
        return "not measured"
    if unit == "share":
        return f"{value * 100:.1f}%"
    if unit == "points":
        return f"{value * 100:+.1f} points".replace("-", "−").replace("+0.0", "0")
    if unit == "ratio":
        return f"{value:.2f}×"
    return f"{value:.3g}"


def format_verdict(is_good: bool | None) -> Markup:
    """A mark that colour-blind readers and screen readers can tell too."""
    kind, mark, words = {
        True: ("good", "✓", "yes"),
        False: ("bad", "✗", "no"),
        None: ("open", "–", "not measured"),
    }[is_good]
    return Markup('<span class="mark {}" role="img" aria-label="{}">{}</span>').format(
        kind, words, mark
    )


def _pretty(value: Any) -> str:
    """JSON for reading; text (a recipe's TOML) as it is."""
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
