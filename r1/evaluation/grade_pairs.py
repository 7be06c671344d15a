"""`r1 grade`: judge pairs of a gold and an answer, and measure the judge where labels are given."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from r1.rewards.math import MathVerifier, final_answer
from r1.tasks.row_files import Row, read_rows
from r1.tasks.task import TaskError


@dataclass(frozen=True, slots=True)
class Pair:
    """A row: one or several golds, what was answered, and what a person says of it."""

    line: str
    gold: str | tuple[str, ...]
    pred: str
    question: str | None
    label: bool | None


@dataclass(frozen=True, slots=True)
class PairVerdict:
    """`correct` is None when the pair could not be graded."""

    line: str
    gold: str | tuple[str, ...]
    pred: str
    correct: bool | None
    reason: str
    label: bool | None


@dataclass(frozen=True, slots=True)
class PairCounts:
    """How the verdicts on labelled pairs compare with the labels.

    Rates are None where nothing can be counted; an ungraded pair is neither right nor wrong.
    """

    num_right: int
    num_graded: int
    num_accepted_of_correct: int
    num_correct: int
    num_accepted_of_wrong: int
    num_wrong: int
    num_ungraded: int

    def summary(self) -> str:
        """One line: accuracy, recall, false-positive rate, each with its counts."""
        parts = [
            ("accuracy", self.num_right, self.num_graded),
            ("recall", self.num_accepted_of_correct, self.num_correct),
            ("false-positive rate", self.num_accepted_of_wrong, self.num_wrong),
        ]
        texts = [
            f"{name} {count / total:.4f} ({count}/{total})" if total else f"{name} - (0/0)"
            for name, count, total in parts
        ]
        return "; ".join([*texts, f"{self.num_ungraded} ungraded"])


def run_grade(
    path: Path,
    *,
    as_json: bool = False,
    order_free: bool = False,
    num_workers: int = 2,
    timeout_seconds: float = 5.0,
) -> list[PairVerdict]:
    """Print a verdict with its reason for every row of a file, then the rates to stderr.

    A row has `gold` (a text, or a list of accepted ones), `pred` (an answer, or a whole
    reply, whose answer is extracted), and optionally `question` and `label` (whether the
    answer is right).

    Raises:
        TaskError: for a file or row that cannot be read, with the line.
    """
    pairs = [_read_pair(row) for row in read_rows(path)]
    verdicts = []
    with MathVerifier(num_workers, timeout_seconds) as verifier:
        for verdict in grade_pairs(pairs, verifier, order_free=order_free):
            print(_as_json(verdict) if as_json else _as_text(verdict))
            verdicts.append(verdict)
    print(_closing_line(verdicts), file=sys.stderr)
    return verdicts


def grade_pairs(
    pairs: list[Pair], verifier: MathVerifier, *, order_free: bool = False
) -> Iterator[PairVerdict]:
    """The verdicts in the order of the pairs, as they become known."""

    def grade(pair: Pair) -> PairVerdict:
        verdict = verifier.verify(
            pair.gold if isinstance(pair.gold, str) else list(pair.gold),
            final_answer(pair.pred),
            question=pair.question,
            order_free=order_free,
        )
        return PairVerdict(
            pair.line, pair.gold, pair.pred, verdict.is_correct, verdict.reason, pair.label
        )

    with ThreadPoolExecutor(verifier.num_workers) as threads:
        yield from threads.map(grade, pairs)


def count_verdicts(verdicts: list[PairVerdict]) -> PairCounts:
    """Compare verdicts with labels; pairs without a label do not count."""
    labelled = [verdict for verdict in verdicts if verdict.label is not None]
    counts = Counter((verdict.label, verdict.correct) for verdict in labelled)
    return PairCounts(
        num_right=counts[True, True] + counts[False, False],
        num_graded=len(labelled) - counts[True, None] - counts[False, None],
        num_accepted_of_correct=counts[True, True],
        num_correct=counts[True, True] + counts[True, False],
        num_accepted_of_wrong=counts[False, True],
        num_wrong=counts[False, True] + counts[False, False],
        num_ungraded=counts[True, None] + counts[False, None],
    )


def _closing_line(verdicts: list[PairVerdict]) -> str:
    if any(verdict.label is not None for verdict in verdicts):
        return count_verdicts(verdicts).summary()
    counts = Counter(verdict.correct for verdict in verdicts)
    return f"{counts[True]} correct, {counts[False]} wrong, {counts[None]} ungraded"


def _read_pair(row: Row) -> Pair:
    data = row.data
    gold, pred = _required(row, "gold"), _required(row, "pred")
    golds = gold if isinstance(gold, list) else [gold]
    if not golds or not all(isinstance(text, str | int | float) for text in golds):
        raise TaskError(f"{row.location}: gold must be a text or a list of texts, not {gold!r}")
    if not isinstance(pred, str | int | float):
        raise TaskError(f"{row.location}: pred must be a text, not {pred!r}")
    question = data.get("question")
    if question is not None and not isinstance(question, str):
        raise TaskError(f"{row.location}: question must be a text, not {question!r}")
    texts = tuple(str(text) for text in golds)
    return Pair(
        row.location, texts if isinstance(gold, list) else texts[0], str(pred), question,
        _label(data, row.location),
    )  # fmt: skip


def _required(row: Row, name: str) -> Any:
    if name not in row.data or row.data[name] is None:
        there = ", ".join(row.data) or "nothing"
        raise TaskError(f"{row.location}: no field {name!r}; the row has {there}")
    return row.data[name]


def _label(data: Mapping[str, Any], location: str) -> bool | None:
    label = data.get("label")
    if label is None or isinstance(label, bool):
        return label
    if label in (0, 1):
        return bool(label)
    raise TaskError(f"{location}: label must be true or false (or 1 or 0), not {label!r}")


def _as_json(verdict: PairVerdict) -> str:
    row = asdict(verdict)
    row["line"] = _line_number(verdict.line)
    if verdict.label is None:
        del row["label"]
    return json.dumps(row, ensure_ascii=False)


def _as_text(verdict: PairVerdict) -> str:
    word = {True: "correct", False: "wrong", None: "ungraded"}[verdict.correct]
    mismatch = "" if verdict.label in (None, verdict.correct) else "  [label differs]"
    return f"{_line_number(verdict.line)}: {word}: {verdict.reason}{mismatch}"


def _line_number(location: str) -> int | str:
    number = location.rsplit(":", 1)[-1].rsplit(" ", 1)[-1]
    return int(number) if number.isdigit() else location
