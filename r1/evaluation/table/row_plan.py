"""What an evaluation is going to do, checked before a model is loaded.

A plan holds for every row its config, its task and what it will cost, or the reason why
the row cannot be measured here.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from r1.config import load_config
from r1.evaluation.evaluate import chosen_problems
from r1.evaluation.judges.judges import CostEstimate, estimate_cost
from r1.evaluation.record_file import read_records
from r1.evaluation.run_evaluate import EvaluateConfig
from r1.evaluation.table.benchmarks import BENCHMARKS, Benchmark, find_benchmark
from r1.evaluation.table.row_result import RECORDS_FILE
from r1.rewards.sandbox.sandbox import SandboxFailure
from r1.rewards.sandbox.self_check import strongest_isolation
from r1.run_log import RunError
from r1.tasks.judged.judged import JudgedTask
from r1.tasks.task import Task, TaskError, build_task, preflight

if TYPE_CHECKING:
    from r1.tasks.judged.judged import Judge

# A reply stands in its record twice, raw and split; a token is about 4.5 bytes, and
# replies are a fraction of the longest allowed.
_BYTES_PER_TOKEN = 9
_TYPICAL_SHARE_OF_LIMIT = 0.25


@dataclass(frozen=True, slots=True)
class RowPlan:
    """One row: how it will be measured, or `reason`, why it cannot be."""

    benchmark: Benchmark
    config: EvaluateConfig
    task: Task | None
    num_problems: int = 0
    num_present: int = 0
    reason: str = ""
    judging: CostEstimate | None = None

    @property
    def num_requests(self) -> int:
        """Replies that are still to be generated."""
        return self.num_problems * self.config.num_samples - self.num_present

    @property
    def num_tokens_at_most(self) -> int:
        num_replies = self.num_requests * self.benchmark.max_turns
        return num_replies * self.config.sampling.max_tokens

    @property
    def num_judge_calls(self) -> int:
        return self.judging.num_calls if self.judging else 0


def row_config(
    benchmark: Benchmark, model: str, output: Path, overrides: Sequence[str]
) -> EvaluateConfig:
    """A row's config: the protocol's values, changed by `key=value` overrides.

    Raises ConfigError as `load_config` does.
    """
    task = benchmark.task_config()
    defaults = [
        f"model={json.dumps(model)}",
        f"output={json.dumps(str(output / benchmark.name))}",
        f"task.name={json.dumps(task.name)}",
        f"num_samples={benchmark.num_samples}",
        *(f"task.options.{name}={json.dumps(value)}" for name, value in task.options.items()),
    ]
    return load_config(EvaluateConfig, None, [*defaults, *overrides])


def plan_rows(
    names: Sequence[str],
    model: str,
    output: Path,
    overrides: Sequence[str],
    judge: Judge | None = None,
) -> list[RowPlan]:
    """A plan of every named row, or of the whole table without names.

    A named row that cannot be measured is an error; of the whole table it is left out,
    with its reason. Raises TaskError, RunError or ConfigError of one line.
    """
    rows = [find_benchmark(name) for name in dict.fromkeys(names)] or list(BENCHMARKS.values())
    unique = {row.name: row for row in rows}
    plans = [
        plan_row(row, row_config(row, model, output, overrides), judge) for row in unique.values()
    ]
    for plan in plans:
        if names and plan.reason:
            raise TaskError(f"row {plan.benchmark.name!r} cannot be measured: {plan.reason}")
    if all(plan.reason for plan in plans):
        raise TaskError("no row can be measured here; r1 evaluate --list says what is missing")
    return plans


def plan_row(
    benchmark: Benchmark,
    config: EvaluateConfig,
    judge: Judge | None,
    *,
    is_thorough: bool = True,
    is_judged_elsewhere: bool = False,
) -> RowPlan:
    """Check one row: its data, its judge, its sandbox.

    `is_thorough` reads every gold answer; `is_judged_elsewhere` asks for no judge.
    """
    try:
        if benchmark.num_judge_calls and judge is None and not is_judged_elsewhere:
            raise TaskError("it needs a judge: --judge MODEL --judge-url URL")
        if benchmark.needs_sandbox:
            strongest_isolation()
        task = build_task(config.task, judge)
        if is_thorough:
            preflight(task, (config.split,))
        problems = chosen_problems(task, config)
    except (ValueError, SandboxFailure) as error:
        return RowPlan(benchmark, config, None, reason=str(error))
    wanted = {(p.id, index) for p in problems for index in config.sample_indices}
    present = read_records(config.output / RECORDS_FILE)
    judging = None
    if isinstance(task, JudgedTask):
        num_missing = Counter(problem_id for problem_id, _ in wanted - present.keys())
        judging = estimate_cost(task, num_missing, problems)
    num_present = len(wanted & present.keys())
    return RowPlan(benchmark, config, task, len(problems), num_present, judging=judging)


def check_disk(plans: Sequence[RowPlan], output: Path) -> None:
    """Raise RunError when the replies will probably not fit on the disk of `output`."""
    num_tokens = sum(plan.num_tokens_at_most for plan in plans if not plan.reason)
    needed = int(num_tokens * _TYPICAL_SHARE_OF_LIMIT * _BYTES_PER_TOKEN)
    folder = next(path for path in (output, *output.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise RunError(
            f"{output}: {free / 1e9:.1f} GB are free, the replies will take about "
            f"{needed / 1e9:.1f} GB; free some space, or ask for fewer samples"
        )


def cost_table(plans: Sequence[RowPlan]) -> str:
    """What is about to start: requests, tokens at most and judge calls of every row.

    Below it, a line for each row that a judge grades: who, how many tokens, at what price.
    """
    head = ("row", "questions", "samples", "requests", "tokens at most", "judge calls")
    rows = [
        (
            plan.benchmark.name,
            f"{plan.num_problems:,}",
            f"{plan.config.num_samples:,}",
            f"{plan.num_requests:,}",
            f"{plan.num_tokens_at_most:,}",
            f"{plan.num_judge_calls:,}",
        )
        for plan in plans
        if not plan.reason
    ]
    measured = [plan for plan in plans if not plan.reason]
    totals = (
        f"{sum(plan.num_requests for plan in measured):,}",
        f"{sum(plan.num_tokens_at_most for plan in measured):,}",
        f"{sum(plan.num_judge_calls for plan in measured):,}",
    )
    if len(rows) > 1:
        rows.append(("all", "", "", *totals))
    judged = [plan.judging.line() for plan in measured if plan.judging]
    return "\n".join([aligned([head, *rows]), *judged])


def aligned(rows: Sequence[Sequence[str]], num_left: int = 1) -> str:
    """Columns as wide as their widest cell, the first `num_left` to the left."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if column < num_left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)
