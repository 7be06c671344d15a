"""A comparison of two evaluations as JSON, Markdown, HTML and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from r1.evaluation.html_pages import format_count, printable, render_page
from r1.evaluation.markdown_tables import markdown_table, markdown_text
from r1.evaluation.run_report.plots import (
    BLUE,
    GREY,
    MISSING_MATPLOTLIB,
    has_matplotlib,
    save_figure,
    style_axes,
)
from r1.evaluation.table.comparison import Comparison, QuestionPair, RowComparison
from r1.run_log import explain_write_errors, write_json, write_text

NUM_SHOWN = 20
SHOWN_CHARACTERS = 160

EXPLANATION = (
    "Mean scores over the questions that both have graded samples of, in percent, and their "
    "difference in points with its standard error by question and 95% interval. ± rerun is the "
    "error of the difference for the same questions sampled again. p is two-sided: of the mean "
    "difference (normal), and of the exact sign test on the questions that differ. Of twenty "
    "rows without any true difference, one is expected below p = 0.05."
)
_HEADER = (
    "difference",
    "± by question",
    "95% interval",
    "± rerun",
    "p",
    "better / worse / equal",
    "p (signs)",
    "in both",
    "only in first / second",
)


def write_comparison(comparison: Comparison, output: Path) -> list[Path]:
    """Write comparison.json, .md, .html and .png into `output`; the files.

    Without matplotlib there is no PNG, and the page says so.
    """
    paths = [output / f"comparison.{kind}" for kind in ("json", "md", "html")]
    plotted = has_matplotlib()
    write_json(paths[0], comparison_json(comparison))
    write_text(paths[1], comparison_markdown(comparison))
    write_text(paths[2], comparison_html(comparison, [] if plotted else [MISSING_MATPLOTLIB]))
    if plotted:
        paths.append(output / "comparison.png")
        with explain_write_errors(paths[-1]):
            _save_plot(comparison, paths[-1])
    return paths


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """The fields of Comparison, RowComparison and QuestionPair; scores and errors as shares."""
    return asdict(comparison)


def comparison_text(comparison: Comparison) -> str:
    """The rows as a table in Markdown, and what it leaves out."""
    names = (comparison.name_a, comparison.name_b)
    parts = [
        f"# {markdown_text(names[1])} minus {markdown_text(names[0])}, on the same questions",
        markdown_table(["Row", *names, *_HEADER], map(row_cells, comparison.rows)),
        *_left_out(comparison),
        EXPLANATION,
    ]
    return "\n\n".join(parts) + "\n"


def comparison_markdown(comparison: Comparison) -> str:
    """The same, with the questions of each row that differ most."""
    names = (comparison.name_a, comparison.name_b)
    parts = [comparison_text(comparison)]
    for row in comparison.rows:
        cells = [_question_cells(pair) for pair in row.most_different[:NUM_SHOWN]]
        if cells:
            table = markdown_table(["Question", "", *names, "difference"], cells, 2)
            parts.append(
                f"## {markdown_text(row.row)}: the questions that differ most\n\n{table}\n"
            )
    return "\n".join(parts)


def comparison_html(comparison: Comparison, notes: Sequence[str] = ()) -> str:
    """The same as one page."""
    return render_page(
        "comparison.html.jinja",
        comparison=comparison,
        header=_HEADER,
        cells=row_cells,
        question_cells=_question_cells,
        num_shown=NUM_SHOWN,
        widest=_widest(comparison),
        left_out=_left_out(comparison),
        explanation=EXPLANATION,
        notes=notes,
    )


def row_cells(row: RowComparison) -> list[str]:
    """A row as text: its name, both means, and what _HEADER names."""
    paired = row.paired
    return [
        row.row,
        f"{100 * row.mean_a:.1f}",
        f"{100 * row.mean_b:.1f}",
        _points(paired.difference),
        "–" if paired.error is None else f"{100 * paired.error:.2f}",
        f"{_points(paired.low)} to {_points(paired.high)}",
        "–" if row.rerun_error is None else f"{100 * row.rerun_error:.2f}",
        _p(row.p_value),
        f"{row.num_b_better:,} / {row.num_a_better:,} / {row.num_equal:,}",
        _p(row.sign_p_value),
        format_count(paired.num_questions),
        f"{row.only_a:,} / {row.only_b:,}",
    ]


def _question_cells(pair: QuestionPair) -> list[str]:
    assert pair.a is not None and pair.b is not None
    text = " ".join(pair.question.split())
    text = text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]} ..."
    return [
        pair.problem_id,
        text,
        f"{100 * pair.a:.1f}",
        f"{100 * pair.b:.1f}",
        _points(pair.b - pair.a),
    ]


def _left_out(comparison: Comparison) -> list[str]:
    """Rows that only one of the two has, and what the rows' notes say."""
    notes = [f"{row.row}: {note}" for row in comparison.rows for note in row.notes]
    sides = (
        (comparison.name_a, comparison.rows_only_a),
        (comparison.name_b, comparison.rows_only_b),
    )
    notes += [f"only in {name}: {', '.join(rows)}" for name, rows in sides if rows]
    return ["\n".join(f"- {markdown_text(note)}" for note in notes)] if notes else []


def _widest(comparison: Comparison) -> float:
    """The largest distance from zero of any interval, for the charts; never 0."""
    ends = [abs(end) for row in comparison.rows for end in (row.paired.low, row.paired.high)]
    return max(ends, default=0.0) or 1.0


def _points(difference: float) -> str:
    """+2.31, −0.40, 0.00."""
    text = f"{100 * difference:+.2f}".replace("-", "−")
    return "0.00" if text in ("+0.00", "−0.00") else text


def _p(value: float | None) -> str:
    if value is None:
        return "–"
    return "≤ 0.001" if value <= 0.001 else f"{value:.3f}"


def _save_plot(comparison: Comparison, path: Path) -> Path:
    """The difference of each row with its 95% interval, zero in the middle."""
    from matplotlib.figure import Figure

    rows = comparison.rows
    figure = Figure(figsize=(9, 1.4 + 0.36 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(rows):
        paired = row.paired
        ends = [100 * paired.low, 100 * paired.high]
        axes.plot(ends, [place] * 2, color=BLUE, linewidth=6, alpha=0.3, solid_capstyle="butt")
        axes.plot(100 * paired.difference, place, "o", color=BLUE)
    axes.axvline(0, color=GREY, linewidth=1)
    limit = 105 * _widest(comparison)
    axes.set(xlim=(-limit, limit), ylim=(len(rows) - 0.5, -0.5), xlabel="points, 95% interval")
    axes.set_yticks(range(len(rows)), [_plain(row.row) for row in rows])
    axes.set_title(_plain(f"{comparison.name_b} minus {comparison.name_a}"), fontsize=11)
    style_axes(axes)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    return save_figure(figure, path)


def _plain(text: str) -> str:
    """A dollar would start a formula."""
    return printable(text).replace("$", r"\$")
