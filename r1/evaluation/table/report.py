"""The report of an evaluation folder: the README's table with our column, and pages to read.

    table.json   every figure: `lines` are benchmark_report_lines.TableLine, `rows` the
                 results of the rows as they are in their folders
    table.md     the same to paste; table.html the same to read; table.png to show
    ROW/questions/index.html   every question with its samples

Made from the rows' records and results alone: no model, no data, no network.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from r1.evaluation.html_pages import format_count, format_duration, format_number, render_page
from r1.evaluation.markdown_tables import markdown_table, markdown_text
from r1.evaluation.metrics import VOTE_RULE
from r1.evaluation.run_report.plots import MISSING_MATPLOTLIB, has_matplotlib
from r1.evaluation.table.benchmarks import published_models
from r1.evaluation.table.pages import INDEX_PAGE, write_question_pages
from r1.evaluation.table.report_lines import (
    NOT_ASKED,
    TableLine,
    distilled_models,
    table_lines,
)
from r1.evaluation.table.report_plot import save_table_plot
from r1.evaluation.table.row_result import RECORDS_FILE, RESULT_FILE
from r1.run_log import RunError, explain_write_errors, write_json, write_text

NOT_RUN_FILE = "not_run.json"
TABLE_FILE = "table.html"

ERRORS = (
    "± by question is the standard error for other questions of the same kind, ± rerun that of "
    "sampling the same questions again; samples that are missing or that the grader could not "
    "judge are left out of every score, and counted. Ours is in percent like the published "
    "scores, which are those of the DeepSeek-R1 README (MIT License)."
)


@dataclass(frozen=True, slots=True)
class Table:
    """What the report shows: our model's name and the lines of the table."""

    model: str
    lines: Sequence[TableLine]
    rows: Sequence[Mapping[str, Any]]

    @property
    def measured(self) -> list[TableLine]:
        return [line for line in self.lines if not line.not_run]

    @property
    def models(self) -> list[str]:
        """The published columns; none where no measured line was published."""
        return published_models() if any(line.published for line in self.measured) else []

    @property
    def groups(self) -> list[tuple[str, list[TableLine]]]:
        groups = groupby(self.measured, key=lambda line: line.group)
        return [(name, list(lines)) for name, lines in groups]

    @property
    def absent(self) -> list[TableLine]:
        """Lines that could not be measured, or not yet."""
        return [line for line in self.lines if line.not_run not in ("", NOT_ASKED)]

    @property
    def with_distilled(self) -> list[TableLine]:
        return [line for line in self.measured if line.distilled]

    @property
    def rows_measured(self) -> list[TableLine]:
        """The first line of each measured row: tokens, time and majority are the row's."""
        return list({line.row: line for line in reversed(self.measured)}.values())[::-1]

    @property
    def with_several_samples(self) -> list[TableLine]:
        rows = self.rows_measured
        return [line for line in rows if line.pass_at_k or line.majority is not None]

    @property
    def num_tokens(self) -> int | None:
        return sum(line.num_tokens or 0 for line in self.rows_measured) or None

    @property
    def seconds(self) -> float | None:
        return math.fsum(line.seconds or 0.0 for line in self.rows_measured) or None

    @property
    def powers(self) -> list[str]:
        """Every k that some row has a pass@k of."""
        return sorted({k for line in self.measured for k in line.pass_at_k}, key=int)

    @property
    def not_asked(self) -> list[str]:
        return [line.name for line in self.lines if line.not_run == NOT_ASKED]


def write_outputs(folder: Path, not_run: Mapping[str, str] | None = None) -> list[Path]:
    """Write the report of all rows that `folder` holds; the files of the table.

    `not_run` says by row name why rows could not be measured, and is kept in the folder.
    Without matplotlib there is no table.png, and table.html says so. Raises RunError when
    there is no finished row, or rows of two models.
    """
    if not_run:
        write_json(folder / NOT_RUN_FILE, dict(not_run))
    table = read_table(folder)
    paths = [folder / name for name in ("table.json", "table.md", TABLE_FILE)]
    for row_folder, row in _row_results(folder):
        write_question_pages(row_folder, row, folder / TABLE_FILE)
    write_json(paths[0], table_json(table))
    write_text(paths[1], table_markdown(table))
    plotted = has_matplotlib()
    write_text(paths[2], table_html(table, [] if plotted else [MISSING_MATPLOTLIB]))
    if plotted:
        with explain_write_errors(folder / "table.png"):
            paths.append(save_table_plot(table.model, table.lines, folder / "table.png"))
    return paths


def is_evaluation_folder(folder: Path) -> bool:
    """Whether a folder is that of `r1 evaluate MODEL`, not of a training run."""
    if any((folder / name).exists() for name in ("run.json", "stages", "stage.json")):
        return False
    return next(folder.glob(f"**/{RESULT_FILE}"), None) is not None


def read_table(folder: Path) -> Table:
    """The table of an evaluation folder; raises RunError as `write_outputs` does."""
    found = _row_results(folder)
    if not found:
        raise RunError(f"{folder}: no row has a {RESULT_FILE} yet")
    models = sorted({row["model"] for _, row in found})
    names = [row["row"] for _, row in found]
    if len(models) > 1 or len(set(names)) < len(names):
        raise RunError(
            f"{folder}: holds several evaluations ({', '.join(models)}); report one folder "
            "at a time, or use r1 evaluate --compare"
        )
    pages = {
        row["row"]: f"{path.relative_to(folder).as_posix()}/{INDEX_PAGE}" for path, row in found
    }
    rows = [row for _, row in found]
    return Table(models[0], table_lines(rows, pages, _reasons(folder)), rows)


def table_json(table: Table) -> dict[str, Any]:
    """What table.json holds."""
    return {
        "model": table.model,
        "models": published_models(),
        "distilled_models": distilled_models(),
        "vote_rule": VOTE_RULE,
        "lines": [line.to_json() for line in table.lines],
        "rows": list(table.rows),
    }


def table_markdown(table: Table) -> str:
    """The table with our column first, what it was measured on, and what was not measured."""
    models = table.models
    header = ["", "Benchmark (Metric)", table.model, "± by question", "± rerun", "n / asked"]
    cells = [_score_cells(line, models) for line in table.measured]
    parts = [markdown_table([*header, *models], cells, num_left=2), *_notes(table)]
    if table.with_several_samples:
        header = ["Benchmark", *(f"pass@{k}" for k in table.powers), "majority", "ties to first"]
        cells = [_several_cells(line, table.powers) for line in table.with_several_samples]
        parts.append(markdown_table(header, cells))
    header = ["Benchmark", "judge", "licence", "ungraded", "tokens, mean", "tokens", "time"]
    parts.append(markdown_table(header, map(_cost_cells, table.rows_measured), num_left=3))
    if table.with_distilled:
        header = ["Model", *(f"{line.title} ({line.metric})" for line in table.with_distilled)]
        parts.append(markdown_table(header, _distilled_cells(table)))
    if table.absent:
        reasons = [(line.name, line.not_run) for line in table.absent]
        parts.append(markdown_table(["Not run", "because"], reasons, num_left=2))
    if table.not_asked:
        parts.append(f"Not asked for: {', '.join(table.not_asked)}.")
    return "\n\n".join([*parts, ERRORS]) + "\n"


def table_html(table: Table, notes: Sequence[str] = ()) -> str:
    """The same as one page."""
    return render_page(
        "benchmark_table.html.jinja",
        table=table,
        distilled_models=distilled_models(),
        vote_rule=VOTE_RULE,
        several_cells=_several_cells,
        errors=ERRORS,
        notes=notes,
    )


def _score_cells(line: TableLine, models: Sequence[str]) -> list[str]:
    return [
        line.group,
        line.name,
        line.shown(line.value),
        line.shown(line.error_by_question, 2),
        line.shown(line.rerun_error, 2),
        f"{format_count(line.num_present)} / {format_count(line.num_asked)}",
        *(line.shown(line.published.get(model)) for model in models),
    ]


def _several_cells(line: TableLine, powers: Sequence[str]) -> list[str]:
    passed = [_percent(line.pass_at_k.get(k)) for k in powers]
    return [line.title, *passed, _percent(line.majority), _percent(line.majority_ties_to_first)]


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _cost_cells(line: TableLine) -> list[str]:
    return [
        line.title,
        line.judge or "–",
        line.licence,
        format_count(line.num_ungraded),
        format_number(line.mean_tokens, 0),
        format_count(line.num_tokens),
        format_duration(line.seconds),
    ]


def _distilled_cells(table: Table) -> list[list[str]]:
    lines = table.with_distilled
    ours = [table.model, *(line.shown(line.value) for line in lines)]
    return [ours] + [
        [model, *(line.shown(line.distilled.get(model)) for line in lines)]
        for model in distilled_models()
    ]


def _notes(table: Table) -> list[str]:
    notes = [f"- {line.title}: {mark}" for line in table.rows_measured for mark in line.marks]
    if any(line.majority is not None for line in table.measured):
        notes.append(f"- Majority, cons@k: {VOTE_RULE}")
    return ["\n".join(markdown_text(note) for note in notes)] if notes else []


def _row_results(folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    paths = sorted(folder.glob(f"**/{RESULT_FILE}"))
    return [(path.parent, json.loads(path.read_text(encoding="utf-8"))) for path in paths]


def _reasons(folder: Path) -> dict[str, str]:
    """Why rows were not measured: as the evaluation said, or because it has not finished them."""
    path = folder / NOT_RUN_FILE
    reasons = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for records in sorted(folder.glob(f"**/{RECORDS_FILE}")):
        if not records.with_name(RESULT_FILE).exists():
            with records.open("rb") as lines:
                num_records = sum(1 for _ in lines)
            name = records.parent.relative_to(folder).as_posix()
            reasons[name] = f"not finished: {num_records:,} records so far"
    return reasons
