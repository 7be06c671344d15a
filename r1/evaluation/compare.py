"""Two evaluations of the same questions, compared question by question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from r1.evaluation.metrics import PairedDifference, paired_difference
from r1.evaluation.record_file import Record, read_records
from r1.evaluation.row_result import RECORDS_FILE
from r1.run_log import RunError, write_json

Scores = Mapping[str, Sequence[float | None]]


@dataclass(frozen=True, slots=True)
class QuestionPair:
    """One question's mean score in both evaluations; None where nothing was graded."""

    problem_id: str
    question: str
    a: float | None
    b: float | None


@dataclass(frozen=True, slots=True)
class RowComparison:
    """b minus a on one row: the mean difference, and on how many questions each is better."""

    row: str
    paired: PairedDifference
    num_a_better: int
    num_b_better: int
    num_equal: int
    questions: Sequence[QuestionPair]


def compare_folders(a: Path, b: Path) -> list[RowComparison]:
    """Every row that both evaluation folders hold, b minus a.

    Also takes one row's folder, or a file of records. Raises RunError when they have no
    row, or a row no question, in common.
    """
    files_a, files_b = _record_files(a), _record_files(b)
    if len(files_a) == len(files_b) == 1:
        names = [(next(iter(files_b)), *files_a.values(), *files_b.values())]
    else:
        shared = [name for name in files_a if name in files_b]
        names = [(name, files_a[name], files_b[name]) for name in shared]
    if not names:
        raise RunError(
            f"{a} and {b} have no row in common: {', '.join(files_a)} and {', '.join(files_b)}"
        )
    return [
        compare_records(name, read_records(x).values(), read_records(y).values())
        for name, x, y in names
    ]


def compare_records(row: str, a: Any, b: Any) -> RowComparison:
    """Compare records of one row; raises RunError when no graded question is in both."""
    records_a, records_b = list(a), list(b)
    scores_a, scores_b = _scores(records_a), _scores(records_b)
    texts_a, texts_b = _questions(records_a), _questions(records_b)
    differing = [name for name in texts_a if texts_b.get(name, texts_a[name]) != texts_a[name]]
    if differing:
        raise RunError(f"row {row}: question {differing[0]!r} is not the same in both")
    try:
        paired = paired_difference(scores_a, scores_b)
    except ValueError as error:
        raise RunError(f"row {row}: {error}") from None
    texts = {**texts_b, **texts_a}
    pairs = [
        QuestionPair(name, text, _mean(scores_a.get(name, ())), _mean(scores_b.get(name, ())))
        for name, text in texts.items()
    ]
    both = [(pair.a, pair.b) for pair in pairs if pair.a is not None and pair.b is not None]
    return RowComparison(
        row=row,
        paired=paired,
        num_a_better=sum(x > y for x, y in both),
        num_b_better=sum(y > x for x, y in both),
        num_equal=sum(x == y for x, y in both),
        questions=pairs,
    )


def comparison_text(rows: Sequence[RowComparison], name_a: str, name_b: str) -> str:
    """The comparison for a terminal or a Markdown file, in percentage points."""
    lines = [f"{name_b} minus {name_a}, on the same questions (pass@1, points)", ""]
    for row in rows:
        paired = row.paired
        error = "" if paired.error is None else f" ± {100 * paired.error:.2f}"
        lines.append(
            f"- {row.row}: {100 * paired.difference:+.2f}{error} "
            f"(95%: {100 * paired.low:+.2f} to {100 * paired.high:+.2f}); "
            f"{row.num_b_better} questions better, {row.num_a_better} worse, "
            f"{row.num_equal} equal; {paired.num_questions} in both, {paired.num_unpaired} not"
        )
    return "\n".join(lines) + "\n"


def write_comparison(rows: Sequence[RowComparison], path: Path) -> None:
    """Everything of the comparison as JSON, each question with both scores."""
    write_json(path, {"rows": [asdict(row) for row in rows]})


def _record_files(path: Path) -> dict[str, Path]:
    if path.is_file():
        return {path.stem: path}
    if (path / RECORDS_FILE).is_file():
        return {path.name: path / RECORDS_FILE}
    files = sorted(path.rglob(RECORDS_FILE))
    if not files:
        raise RunError(f"{path}: no records there (no {RECORDS_FILE})")
    return {str(file.parent.relative_to(path)): file for file in files}


def _scores(records: Sequence[Record]) -> dict[str, list[float | None]]:
    scores: dict[str, list[float | None]] = {}
    for record in records:
        scores.setdefault(record["problem_id"], []).append(record["reward"])
    return scores


def _questions(records: Sequence[Record]) -> dict[str, str]:
    return {record["problem_id"]: record["question"] for record in records}


def _mean(scores: Sequence[float | None]) -> float | None:
    graded = [score for score in scores if score is not None]
    return sum(graded) / len(graded) if graded else None
