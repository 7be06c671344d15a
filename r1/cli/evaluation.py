"""Verbs that measure."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from r1.cli.settings import DryRun, Settings, run_verb


def evaluate(settings: Settings, dry_run: DryRun = False) -> None:
    """Measure pass@1, pass@k and cons@k on a task, with both error bars.

    [dim]r1 evaluate model=tiny task.name=miniature num_samples=8 output=runs/eval[/dim]
    """
    from r1.evaluation.run_evaluate import EvaluateConfig, run_evaluate

    run_verb("evaluate", EvaluateConfig, run_evaluate, settings, dry_run)


def report(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, finished or not.")],
) -> None:
    """Write a run's report again: report.html, report.json and the plots.

    [dim]r1 report runs/quickstart[/dim]
    """
    from r1.evaluation.report import build_report

    result = build_report(folder.expanduser())
    for note in result.notes:
        print(note, file=sys.stderr)
    print(result.html_path)
    print(result.json_path)
