"""`r1 evaluate --list`: every row, whether it can be measured here, and how to get the rest."""

from __future__ import annotations

from pathlib import Path

from r1.evaluation.table.benchmarks import BENCHMARKS, Benchmark
from r1.evaluation.table.row_plan import RowPlan, aligned, plan_row, row_config

_NOWHERE = Path("runs/evaluate/none")


def list_benchmarks(*, has_judge: bool = False) -> str:
    """The table's rows in order, then what each missing one lacks."""
    plans = [_check(row) for row in BENCHMARKS.values()]
    head = ("row", "benchmark", "metric", "questions", "samples", "grading", "here")
    rows = [_cells(plan, has_judge) for plan in plans]
    notes = [f"{p.benchmark.name}: {p.reason}" for p in plans if p.reason]
    stand_ins = [
        f"{row.name}: measures {row.stand_in}" for row in BENCHMARKS.values() if row.stand_in
    ]
    generated = "reasoning_gym/<family> and miniature are rows too; their problems are generated"
    parts = [aligned([head, *rows], num_left=3), generated]
    if stand_ins:
        parts.append("\n".join(["stand-ins:", *stand_ins]))
    if notes:
        parts.append("\n".join(["missing:", *notes]))
    return "\n\n".join(parts)


def _check(row: Benchmark) -> RowPlan:
    config = row_config(row, "none", _NOWHERE, [])
    return plan_row(row, config, None, is_thorough=False, is_judged_elsewhere=True)


def _cells(plan: RowPlan, has_judge: bool) -> tuple[str, ...]:
    row = plan.benchmark
    grading = "sandbox" if row.needs_sandbox else "rules"
    if row.num_judge_calls:
        grading = f"judge x{row.num_judge_calls}"
    here = "no" if plan.reason else "yes"
    if here == "yes" and row.num_judge_calls and not has_judge:
        here = "with --judge"
    metric = ", ".join(line.metric for line in row.lines)
    questions = f"{plan.num_problems or row.num_problems:,}"
    return row.name, row.title, metric, questions, str(row.num_samples), grading, here
