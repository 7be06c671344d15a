"""`r1 report`: what a run folder holds as report.json, report.html and PNG plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1.evaluation.run_report.claims import CLAIMS, ClaimResult, check_claims, find_claims
from r1.evaluation.run_report.page import render_html
from r1.evaluation.run_report.plots import MISSING_MATPLOTLIB, has_matplotlib, save_plots
from r1.evaluation.run_report.results import RunResults, StageResults, load_run
from r1.run_log import explain_write_errors, write_json, write_text


@dataclass(frozen=True, slots=True)
class Report:
    """Where a report was written, and what to tell the user about it."""

    html_path: Path
    json_path: Path
    plot_paths: tuple[Path, ...]
    values: Mapping[str, Any]
    notes: tuple[str, ...] = ()


def build_report(run_folder: Path) -> Report:
    """Write report.json, report.html and plots/*.png into a run folder.

    Works on a pipeline's folder, on that of a single verb, and while a run goes on.
    Without matplotlib the page is complete and a note says that the PNGs are missing.
    Raises RunError when the folder is no run folder or cannot be written.
    """
    run_folder = Path(run_folder)
    run = load_run(run_folder)
    claims = _claims_of(run)
    values = report_values(run, claims)
    plots: list[Path] = []
    notes: list[str] = []
    if has_matplotlib():
        with explain_write_errors(run_folder / "plots"):
            plots = save_plots(run, run_folder / "plots")
    else:
        notes.append(MISSING_MATPLOTLIB)
    json_path, html_path = run_folder / "report.json", run_folder / "report.html"
    write_json(json_path, values)
    write_text(html_path, render_html(run, values, claims, notes))
    return Report(html_path, json_path, tuple(plots), values, tuple(notes))


def report_values(run: RunResults, claims: Sequence[ClaimResult]) -> dict[str, Any]:
    """What report.json holds: the run's own numbers, `stages` and `claims` by name."""
    return {
        "name": run.name,
        "command": run.command,
        "versions": dict(run.versions),
        "seed": run.seed,
        "is_finished": run.is_finished,
        "seconds": run.seconds,
        "peak_rss_bytes": run.peak_rss_bytes,
        "logprob_gap": logprob_gap(run.stages),
        "stages": {stage.name: _stage_values(stage) for stage in run.stages},
        "claims": {result.claim.name: result.to_json() for result in claims},
    }


def logprob_gap(stages: Sequence[StageResults]) -> dict[str, float] | None:
    """Sampler-trainer gap over the steps of every stage that samples; None without one.

    `mean_abs` is the mean over steps, `max_abs` the largest of any token.
    """
    rows = [row for stage in stages for row in stage.metrics]
    means = [r["logprob_gap_mean_abs"] for r in rows if r.get("logprob_gap_mean_abs") is not None]
    peaks = [r["logprob_gap_max_abs"] for r in rows if r.get("logprob_gap_max_abs") is not None]
    if not means:
        return None
    return {"mean_abs": sum(means) / len(means), "max_abs": max(peaks, default=max(means))}


def _stage_values(stage: StageResults) -> dict[str, Any]:
    """`seconds` is the stage's own time, `total_seconds` includes measuring its model."""
    evaluation = dict(stage.evaluation or {})
    measuring = evaluation.pop("seconds", 0.0) if stage.kind != "evaluate" else 0.0
    return {
        "kind": stage.kind,
        "status": stage.status,
        **evaluation,
        "seconds": stage.seconds,
        "total_seconds": None if stage.seconds is None else stage.seconds + measuring,
        "peak_rss_bytes": stage.peak_rss_bytes,
    }


def _claims_of(run: RunResults) -> list[ClaimResult]:
    """The claims that the recipe lists; without a list, those that the run can answer."""
    gap = logprob_gap(run.stages) or {}
    results: dict[str, Mapping[str, Any]] = {
        stage.name: _stage_values(stage) for stage in run.stages
    }
    results["run"] = {
        "seconds": run.seconds,
        "peak_rss_bytes": run.peak_rss_bytes,
        **{f"logprob_gap_{name}": value for name, value in gap.items()},
    }
    if run.claims is not None:
        return check_claims(find_claims(list(run.claims)), results)
    if not run.is_pipeline:
        return []
    return [result for result in check_claims(CLAIMS, results) if result.holds is not None]
