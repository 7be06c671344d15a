"""The table of an evaluation folder: the README's rows with our column, as JSON and Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from r1.evaluation.benchmarks import BENCHMARKS, published_models
from r1.evaluation.row_result import RESULT_FILE
from r1.run_log import RunError, write_json, write_text

Row = Mapping[str, Any]


def write_outputs(folder: Path) -> list[Path]:
    """Write the table of all rows that `folder` holds; the files written.

    Raises RunError when there is no finished row.
    """
    rows = read_rows(folder)
    if not rows:
        raise RunError(f"{folder}: no row has a {RESULT_FILE} yet")
    json_path, markdown_path = folder / "table.json", folder / "table.md"
    write_json(json_path, {"models": published_models(), "rows": rows})
    write_text(markdown_path, markdown_table(rows))
    return [json_path, markdown_path]


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """The results of an evaluation folder, in the order of the table."""
    order = {name: place for place, name in enumerate(BENCHMARKS)}
    rows = [
        json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(folder.glob(f"**/{RESULT_FILE}"))
    ]
    return sorted(rows, key=lambda row: (order.get(row["row"], len(order)), row["row"]))


def markdown_table(rows: Sequence[Row]) -> str:
    """The table with our column first, what it was measured on, and the published columns."""
    models = published_models()
    ours = rows[0]["model"]
    header = [
        "",
        "Benchmark (Metric)",
        ours,
        "± questions",
        "± rerun",
        "n present / asked",
        *models,
    ]
    lines = [_line(header), _line(["---"] * len(header))]
    for row in rows:
        for line in row["lines"]:
            lines.append(_line(_cells(row, line, models)))
    notes = [f"- {row['title']}: {note}" for row in rows for note in _notes(row)]
    return "\n".join([*lines, "", *notes]).rstrip() + "\n"


def _cells(row: Row, line: Row, models: Sequence[str]) -> list[str]:
    name = line["title"] + ("*" if _notes(row) else "")
    counts = f"{row['num_present']:,} / {row['num_asked']:,}"
    published = [_shown(line["published"].get(model)) for model in models]
    errors = [_shown(line["error_by_question"], 2), _shown(line["rerun_error"], 2)]
    value = _shown(line["value"])
    return [row["category"], f"{name} ({line['metric']})", value, *errors, counts, *published]


def _notes(row: Row) -> list[str]:
    notes = [f"stand-in: {row['stand_in']}"] if row["stand_in"] else []
    if " by " in row["grader_version"]:
        notes.append(f"graded with {row['grader_version']}")
    missing = row["num_asked"] - row["num_present"]
    if missing:
        notes.append(f"{missing:,} of {row['num_asked']:,} samples are missing, and not scored")
    if row["num_ungraded"]:
        notes.append(f"{row['num_ungraded']:,} samples are ungraded, and not scored")
    return [*notes, *row["notes"]]


def _shown(value: float | None, num_digits: int = 1) -> str:
    return "-" if value is None else f"{value:.{num_digits}f}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
