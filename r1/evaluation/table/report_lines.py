"""The lines of the benchmark table, from the results of rows: ours, published, or why not run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from r1.evaluation.table.benchmarks import (
    BENCHMARKS,
    Benchmark,
    Line,
    find_benchmark,
    is_generated,
    published_table,
)
from r1.run_log import RunError

Row = Mapping[str, Any]

NOT_ASKED = "not asked for"


@dataclass(frozen=True, slots=True)
class TableLine:
    """One line of the table; `table.json` holds these fields under `lines`.

    `value` is ours and None where `not_run` says why; it and its two standard errors are in
    `unit` (percent, or rating), and so are the published scores by model: `published` are
    the README's main table, `distilled` its table of distilled models. Samples are counted
    in `num_*`; tokens are those of whole replies, `seconds` the time to generate and grade.
    `pass_at_k` (by k) and `majority` (the vote of all samples) are of the whole row, in percent.
    `notes` is what a reader must know, `stand_in` what was measured in place of a set that
    cannot be had. `pages` is the path of the row's questions to read.
    """

    row: str
    category: str
    is_published: bool
    title: str
    metric: str
    unit: str
    value: float | None
    error_by_question: float | None
    rerun_error: float | None
    published: Mapping[str, float | None]
    distilled: Mapping[str, float | None]
    num_problems: int | None
    num_samples: int | None
    num_present: int | None
    num_asked: int | None
    num_ungraded: int | None
    mean_tokens: float | None
    num_tokens: int | None
    seconds: float | None
    pass_at_k: Mapping[str, float]
    majority: float | None
    majority_ties_to_first: float | None
    judge: str
    grader_version: str
    stand_in: str
    licence: str
    notes: Sequence[str]
    pages: str
    not_run: str

    @property
    def name(self) -> str:
        """Benchmark (metric), as in the README; a star marks a line with a note."""
        star = "*" if self.marks and not self.not_run else ""
        return f"{self.title}{star} ({self.metric})"

    @property
    def group(self) -> str:
        """The part of the table that it stands in: the README's categories, then the others."""
        return self.category if self.is_published else "Further sets"

    @property
    def marks(self) -> list[str]:
        """What the note under the table says of this line."""
        marks = [f"stand-in: {self.stand_in}"] if self.stand_in else []
        num_missing = (self.num_asked or 0) - (self.num_present or 0)
        if num_missing:
            marks.append(f"missing, and not scored: {num_missing:,} of {self.num_asked:,} samples")
        if self.num_ungraded:
            marks.append(f"ungraded, and not scored: {self.num_ungraded:,} samples")
        return [*marks, *self.notes]

    @property
    def interval(self) -> tuple[float, float] | None:
        """95% by question within 0 to 100; None without an error, and for ratings."""
        if self.value is None or self.error_by_question is None or self.unit != "percent":
            return None
        margin = 1.96 * self.error_by_question
        return max(0.0, self.value - margin), min(100.0, self.value + margin)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def shown(self, value: float | None, num_digits: int = 1) -> str:
        """A score of this line: percent with `num_digits`, ratings whole, a dash for none."""
        if value is None:
            return "–"
        return f"{value:.{num_digits}f}" if self.unit == "percent" else f"{value:,.0f}"


def distilled_models() -> list[str]:
    """The models of the README's table of distilled models, in its order."""
    return [row["model"] for row in published_table()["distilled_table"]]


def table_lines(
    rows: Sequence[Row], pages: Mapping[str, str], not_run: Mapping[str, str]
) -> list[TableLine]:
    """A line for every measured number, and for every published one that was not measured.

    `pages` and `not_run` give by row name where its questions are to be read, and why it
    was not measured. Rows come in the order of the table, generated ones after it. Raises
    TaskError for a row that is not known, RunError for one with other lines than the table's.
    """
    by_name = {row["row"]: row for row in rows}
    unfinished = [name for name in not_run if is_generated(name)]
    names = dict.fromkeys((*BENCHMARKS, *by_name, *unfinished))
    lines: list[TableLine] = []
    for name in names:
        if name in by_name:
            lines += _measured(by_name[name], pages.get(name, ""))
        elif name in not_run or BENCHMARKS[name].is_published:
            lines += _absent(find_benchmark(name), not_run.get(name, NOT_ASKED))
    return lines


def _measured(row: Row, pages: str) -> list[TableLine]:
    evaluation, asked_lines = row["evaluation"], find_benchmark(row["row"]).lines
    if len(row["lines"]) != len(asked_lines):
        raise RunError(
            f"row {row['row']}: made by another version of r1, with {len(row['lines'])} lines "
            f"instead of {len(asked_lines)}; compute it again with r1 evaluate --regrade"
        )
    return [
        TableLine(
            row=row["row"],
            category=row["category"],
            is_published=row["is_published"],
            title=line["title"],
            metric=line["metric"],
            unit=line["unit"],
            value=line["value"],
            error_by_question=line["error_by_question"],
            rerun_error=line["rerun_error"],
            published=_main_scores(asked),
            distilled=_distilled_scores(asked),
            num_problems=evaluation["num_problems"],
            num_samples=evaluation["num_samples"],
            num_present=row["num_present"],
            num_asked=row["num_asked"],
            num_ungraded=row["num_ungraded"],
            mean_tokens=evaluation["mean_response_tokens"],
            # Replies from elsewhere come without tokens and times.
            num_tokens=row["num_tokens"] or None,
            seconds=evaluation["seconds"] or None,
            **_several_samples(evaluation),
            judge=_judge_of(row),
            grader_version=row["grader_version"],
            stand_in=row["stand_in"],
            licence=row["licence"],
            notes=tuple(row["notes"]),
            pages=pages,
            not_run="",
        )
        for line, asked in zip(row["lines"], asked_lines, strict=True)
    ]


def _absent(benchmark: Benchmark, reason: str) -> list[TableLine]:
    return [
        TableLine(
            row=benchmark.name,
            category=benchmark.category,
            is_published=benchmark.is_published,
            title=line.title,
            metric=line.metric,
            unit="percent" if line.is_percent else "rating",
            value=None,
            error_by_question=None,
            rerun_error=None,
            published=_main_scores(line),
            distilled=_distilled_scores(line),
            num_problems=None,
            num_samples=None,
            num_present=None,
            num_asked=None,
            num_ungraded=None,
            mean_tokens=None,
            num_tokens=None,
            seconds=None,
            pass_at_k={},
            majority=None,
            majority_ties_to_first=None,
            judge="",
            grader_version="",
            stand_in=benchmark.stand_in,
            licence=benchmark.licence,
            notes=(),
            pages="",
            not_run=reason,
        )
        for line in benchmark.lines
    ]


def _several_samples(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    k = evaluation["num_samples"]
    powers = {str(2**i): evaluation.get(f"pass_at_{2**i}") for i in range(1, k.bit_length())}
    return {
        "pass_at_k": {k: 100 * value for k, value in powers.items() if value is not None},
        "majority": _percent(evaluation.get(f"cons_at_{k}")),
        "majority_ties_to_first": _percent(evaluation.get(f"cons_at_{k}_ties_to_first")),
    }


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _main_scores(line: Line) -> dict[str, float | None]:
    for row in published_table()["main_table"]:
        if (row["benchmark"], row["metric"]) == (line.title, line.metric):
            return dict(row["scores"])
    return {}


def _distilled_scores(line: Line) -> dict[str, float | None]:
    # Some models stand in both tables, with other numbers.
    rows = published_table()["distilled_table"] if line.distilled else ()
    return {row["model"]: row["scores"].get(line.distilled) for row in rows}


def _judge_of(row: Row) -> str:
    """Judged rows name their judge behind the version of its prompt: `simpleqa-1 by MODEL`."""
    return row["grader_version"].partition(" by ")[2]
