"""Two evaluations of the same questions, compared question by question.

The spread between questions, which both share, cancels in the differences: they tell two
models apart where their separate scores cannot.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from r1.evaluation.metrics import PairedDifference, paired_difference, rerun_error
from r1.evaluation.record_file import Record, read_records
from r1.evaluation.table.benchmarks import BENCHMARKS
from r1.evaluation.table.row_result import RECORDS_FILE, RESULT_FILE
from r1.run_log import RunError

Scores = Mapping[str, Sequence[float | None]]


@dataclass(frozen=True, slots=True)
class QuestionPair:
    """One question's mean score in both evaluations; None where nothing was graded."""

    problem_id: str
    question: str
    a: float | None
    b: float | None

    @property
    def difference(self) -> float | None:
        return None if self.a is None or self.b is None else self.b - self.a


@dataclass(frozen=True, slots=True)
class RowComparison:
    """b minus a on one row, over the questions that both have graded samples of.

    `rerun_error` is the standard error of the difference for the same questions sampled
    again. `p_value` is two-sided, of the mean difference under a normal distribution;
    `sign_p_value` that of the exact sign test, which asks only on which questions each is
    better. Both None where nothing differs, or nothing varies. `only_a` and `only_b` count
    questions that the other has no graded sample of.
    """

    row: str
    paired: PairedDifference
    mean_a: float
    mean_b: float
    rerun_error: float | None
    p_value: float | None
    sign_p_value: float | None
    num_a_better: int
    num_b_better: int
    num_equal: int
    only_a: int
    only_b: int
    notes: Sequence[str]
    questions: Sequence[QuestionPair]

    @property
    def most_different(self) -> list[QuestionPair]:
        """The questions in both whose scores differ, the largest difference first."""
        pairs = [pair for pair in self.questions if pair.difference]
        return sorted(pairs, key=lambda pair: -abs(pair.difference or 0.0))


@dataclass(frozen=True, slots=True)
class Comparison:
    """All rows that two evaluations share; `rows_only_a` and `rows_only_b` are the others."""

    name_a: str
    name_b: str
    rows: Sequence[RowComparison]
    rows_only_a: Sequence[str]
    rows_only_b: Sequence[str]


def compare(a: Path, b: Path) -> Comparison:
    """Every row that both evaluation folders hold, b minus a.

    Also takes one row's folder, or a file of records. Raises RunError when they have no
    row, or a row no question, in common.
    """
    files_a, files_b = _record_files(a), _record_files(b)
    if len(files_a) == len(files_b) == 1:
        pairs = [(next(iter(files_b)), *files_a.values(), *files_b.values())]
    else:
        pairs = [(name, files_a[name], files_b[name]) for name in files_a if name in files_b]
    if not pairs:
        raise RunError(
            f"{a} and {b} have no row in common: {', '.join(files_a)} and {', '.join(files_b)}"
        )
    shared = {file for _, *files in pairs for file in files}
    name_a, name_b = _model_of(a, files_a), _model_of(b, files_b)
    return Comparison(
        name_a=name_a if name_a != name_b else str(a),
        name_b=name_b if name_a != name_b else str(b),
        rows=[
            compare_records(name, read_records(x).values(), read_records(y).values())
            for name, x, y in pairs
        ],
        rows_only_a=[name for name, file in files_a.items() if file not in shared],
        rows_only_b=[name for name, file in files_b.items() if file not in shared],
    )


def compare_records(row: str, a: Iterable[Record], b: Iterable[Record]) -> RowComparison:
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
    pairs = [
        QuestionPair(name, text, _mean(scores_a.get(name, ())), _mean(scores_b.get(name, ())))
        for name, text in {**texts_b, **texts_a}.items()
    ]
    both = [(p.problem_id, p.a, p.b) for p in pairs if p.a is not None and p.b is not None]
    num_a_better, num_b_better = sum(x > y for _, x, y in both), sum(y > x for _, x, y in both)
    names = [name for name, _, _ in both]
    return RowComparison(
        row=row,
        paired=paired,
        mean_a=math.fsum(x for _, x, _ in both) / len(both),
        mean_b=math.fsum(y for _, _, y in both) / len(both),
        rerun_error=_rerun_error(
            [[scores[name] for name in names] for scores in (scores_a, scores_b)]
        ),
        p_value=normal_p_value(paired.difference, paired.error),
        sign_p_value=sign_p_value(num_a_better, num_b_better),
        num_a_better=num_a_better,
        num_b_better=num_b_better,
        num_equal=len(both) - num_a_better - num_b_better,
        only_a=sum(pair.a is not None and pair.b is None for pair in pairs),
        only_b=sum(pair.b is not None and pair.a is None for pair in pairs),
        notes=_notes(records_a, records_b),
        questions=pairs,
    )


def normal_p_value(difference: float, error: float | None) -> float | None:
    """Two-sided chance of a mean difference at least this large when there is none.

    None without an error, or when every question differs by the same.
    """
    return math.erfc(abs(difference) / error / math.sqrt(2)) if error else None


def sign_p_value(num_worse: int, num_better: int) -> float | None:
    """The exact two-sided sign test, ties left out; None when no question differs.

    Of n questions that differ each is as likely to be better as worse: twice the binomial
    tail beyond the smaller count.
    """
    num_differing = num_worse + num_better
    if not num_differing:
        return None
    tail = ways = 1
    for count in range(1, min(num_worse, num_better) + 1):
        ways = ways * (num_differing - count + 1) // count
        tail += ways
    return min(1.0, 2 * tail / 2**num_differing)


def _rerun_error(scores: Sequence[Sequence[Sequence[float | None]]]) -> float | None:
    errors = [rerun_error(questions) for questions in scores]
    known = [error for error in errors if error is not None]
    return math.hypot(*known) if len(known) == len(errors) else None


def _notes(records_a: Sequence[Record], records_b: Sequence[Record]) -> list[str]:
    """What makes the two less comparable than their numbers look."""
    notes = []
    graders = [sorted({r["grader_version"] for r in rs}) for rs in (records_a, records_b)]
    if graders[0] != graders[1]:
        notes.append(f"graded by {', '.join(graders[0])} and by {', '.join(graders[1])}")
    return notes


def _model_of(path: Path, files: Mapping[str, Path]) -> str:
    """The model that the results name, else the folder's or file's name."""
    results = [file.with_name(RESULT_FILE) for file in files.values()]
    found = [json.loads(p.read_text(encoding="utf-8")) for p in results if p.is_file()]
    models = {row["model"] for row in found}
    return models.pop() if len(models) == 1 else path.name


def _record_files(path: Path) -> dict[str, Path]:
    if path.is_file():
        return {path.stem: path}
    if (path / RECORDS_FILE).is_file():
        return {path.name: path / RECORDS_FILE}
    files = sorted(path.rglob(RECORDS_FILE))
    if not files:
        raise RunError(f"{path}: no records there (no {RECORDS_FILE})")
    named = {file.parent.relative_to(path).as_posix(): file for file in files}
    in_table = {name: named[name] for name in BENCHMARKS if name in named}
    return {**in_table, **named}


def _scores(records: Sequence[Record]) -> dict[str, list[float | None]]:
    scores: dict[str, list[float | None]] = {}
    for record in records:
        scores.setdefault(record["problem_id"], []).append(record["reward"])
    return scores


def _questions(records: Sequence[Record]) -> dict[str, str]:
    return {record["problem_id"]: record["question"] for record in records}


def _mean(scores: Sequence[float | None]) -> float | None:
    graded = [score for score in scores if score is not None]
    return math.fsum(graded) / len(graded) if graded else None
