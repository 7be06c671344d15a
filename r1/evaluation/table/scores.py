"""Numbers of rows whose headline is not pass@1, computed from their records."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from r1.evaluation.record_file import Record
from r1.evaluation.row_metrics.alpaca_eval import HOW_TO_GET_GAMED, alpaca_eval_result
from r1.evaluation.row_metrics.arena_hard import arena_hard_result
from r1.evaluation.row_metrics.codeforces_rating import codeforces_numbers
from r1.evaluation.row_metrics.simpleqa import simpleqa_result
from r1.records import Problem
from r1.tasks.benchmark_data import locate
from r1.tasks.ifeval import official_scores
from r1.tasks.task import TaskError


@dataclass(frozen=True, slots=True)
class Number:
    """A measured number with its two errors, in the unit of the published score."""

    value: float | None
    error_by_question: float | None = None
    rerun_error: float | None = None


@dataclass(frozen=True, slots=True)
class RowNumbers:
    """A row's own numbers by the table's names, and what must be said beside them."""

    numbers: Mapping[str, Number] = field(default_factory=dict)
    notes: Sequence[str] = ()


def row_numbers(name: str, records: Sequence[Record], problems: Sequence[Problem]) -> RowNumbers:
    """The numbers of a row beside those that every evaluation has.

    What the records cannot tell is left out, with the reason in the notes.
    """
    compute = _COMPUTED.get(name)
    if compute is None:
        return RowNumbers()
    try:
        return compute(records, problems)
    except ValueError as error:
        return RowNumbers(notes=[str(error)])


def _arena_hard(records: Sequence[Record], problems: Sequence[Problem]) -> RowNumbers:
    result = arena_hard_result(records)
    interval = f"95% interval {100 * result.low:.1f} to {100 * result.high:.1f} (bootstrap)"
    notes = [f"{interval}; {result.num_games_missing} games without a verdict"]
    return RowNumbers({"win_rate": Number(100 * result.win_rate)}, notes)


def _alpaca_eval(records: Sequence[Record], problems: Sequence[Problem]) -> RowNumbers:
    try:
        gamed = locate(None, "alpaca_eval", ["df_gamed.csv"], HOW_TO_GET_GAMED)
    except TaskError as error:
        result = alpaca_eval_result(records)
        raw = f"raw win rate {100 * result.win_rate:.1f} ± {100 * result.standard_error:.1f}"
        return RowNumbers(notes=[f"{raw}, not comparable; {error}"])
    result = alpaca_eval_result(records, gamed)
    assert result.length_controlled is not None
    number = Number(100 * result.length_controlled)
    notes = [f"raw win rate {100 * result.win_rate:.1f} ± {100 * result.standard_error:.1f}"]
    return RowNumbers({"length_controlled_win_rate": number}, notes)


def _codeforces(records: Sequence[Record], problems: Sequence[Problem]) -> RowNumbers:
    numbers = codeforces_numbers(records, problems)
    is_rated = numbers["rating"] is not None
    notes = [] if is_rated else ["no contest has standings and all its problems graded: no rating"]
    return RowNumbers({name: Number(value) for name, value in numbers.items()}, notes)


def _simpleqa(records: Sequence[Record], problems: Sequence[Problem]) -> RowNumbers:
    result = simpleqa_result(records)
    note = (
        f"attempted {100 * result.attempted:.1f}, correct of those "
        f"{100 * result.correct_given_attempted:.1f}, F-score {100 * result.f_score:.1f}"
    )
    return RowNumbers(notes=[note])


def _ifeval(records: Sequence[Record], problems: Sequence[Problem]) -> RowNumbers:
    graded = [record["parts"] for record in records if "num_instructions" in record["parts"]]
    scores = official_scores(graded)
    note = (
        f"instructions strict {100 * scores.instruction_strict:.1f}, prompts loose "
        f"{100 * scores.prompt_loose:.1f}, instructions loose {100 * scores.instruction_loose:.1f}"
    )
    return RowNumbers(notes=[note])


_COMPUTED: dict[str, Callable[[Sequence[Record], Sequence[Problem]], RowNumbers]] = {
    "alpaca_eval": _alpaca_eval,
    "arena_hard": _arena_hard,
    "chinese_simpleqa": _simpleqa,
    "codeforces": _codeforces,
    "ifeval": _ifeval,
    "simpleqa": _simpleqa,
}
