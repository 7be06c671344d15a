"""One row of the table from its records: the numbers, their errors, the published scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from r1.evaluation.benchmark_numbers import extra_numbers
from r1.evaluation.benchmarks import Benchmark, Line, published_scores
from r1.evaluation.metrics import VOTE_RULE
from r1.evaluation.record_file import Record
from r1.evaluation.result import EvaluationResult, compute_result
from r1.rewards.math import MathVerifier
from r1.run_log import write_json

if TYPE_CHECKING:
    from r1.evaluation.run_evaluate import EvaluateConfig
    from r1.tasks.task import Task

RECORDS_FILE, RESULT_FILE, CONFIG_FILE = "records.jsonl", "result.json", "config.json"


@dataclass(frozen=True, slots=True)
class Number:
    """A measured number with its two errors, in the unit of the published score."""

    value: float | None
    error_by_question: float | None = None
    rerun_error: float | None = None


@dataclass(frozen=True, slots=True)
class RowFacts:
    """What a result says beside its numbers: whose they are, and how they were made.

    `settings` is the row's config as resolved, `notes` what a reader must know.
    """

    model: str
    num_problems: int
    num_samples: int
    grader_version: str
    settings: Mapping[str, Any]
    notes: Sequence[str] = ()


def row_facts(
    config: EvaluateConfig, task: Task, num_problems: int, notes: Sequence[str] = ()
) -> RowFacts:
    """The facts of a row that asks `num_problems` questions as its config says.

    A task's `label`, where it has one, says what departs from the published protocol.
    """
    label = str(getattr(task, "label", ""))
    return RowFacts(
        model=config.model,
        num_problems=num_problems,
        num_samples=config.num_samples,
        grader_version=task.grader_version,
        settings=config.model_dump(mode="json"),
        notes=[*([label] if label else []), *notes],
    )


def write_row_result(
    folder: Path, benchmark: Benchmark, records: Sequence[Record], facts: RowFacts
) -> EvaluationResult:
    """Compute a row from its records and write `result.json` into its folder."""
    result = measure(benchmark, records, facts)
    extra = extra_numbers(benchmark.name, records)
    numbers = {**numbers_of(result), **{name: Number(value) for name, value in extra.items()}}
    missing = Number(None)
    row = {
        "row": benchmark.name,
        "title": benchmark.title,
        "category": benchmark.category,
        "is_published": benchmark.is_published,
        "stand_in": benchmark.stand_in,
        "licence": benchmark.licence,
        "model": facts.model,
        "grader_version": facts.grader_version,
        "notes": list(facts.notes),
        "lines": [
            _line(line, numbers.get(line.number, missing), facts) for line in benchmark.lines
        ],
        "num_present": result.num_present,
        "num_asked": result.num_asked,
        "num_ungraded": result.num_ungraded,
        "num_tokens": sum(record["num_tokens"] for record in records),
        "vote_rule": VOTE_RULE if benchmark.votes else "",
        "evaluation": result.to_json(),
        "settings": dict(facts.settings),
    }
    write_json(folder / RESULT_FILE, row)
    return result


def measure(benchmark: Benchmark, records: Sequence[Record], facts: RowFacts) -> EvaluationResult:
    """Every metric of the records, with the vote that suits the row's answers."""
    counts = {"num_problems": facts.num_problems, "num_samples": facts.num_samples}
    if benchmark.votes != "math":
        same = None if benchmark.votes is None else _same_text
        return compute_result(records, **counts, equivalent=same)
    # Equal answers vote together: the verifier knows that 1/2 is 0.5.
    with MathVerifier(num_workers=1) as verifier:
        return compute_result(
            records,
            **counts,
            equivalent=lambda a, b: verifier.verify(a, b).is_correct is True,
        )


def numbers_of(result: EvaluationResult) -> dict[str, Number]:
    """The numbers that every evaluation has, in percent."""
    pass_at_1 = Number(
        _percent(result.pass_at_1),
        _percent(result.error_by_question),
        _percent(result.rerun_error),
    )
    return {"pass_at_1": pass_at_1, "cons_at_k": Number(_percent(result.cons_at_k))}


def _line(line: Line, number: Number, facts: RowFacts) -> dict[str, Any]:
    # A majority of fewer or more samples than the published one is named as what it is.
    metric = line.metric
    if line.number == "cons_at_k" and facts.num_samples != 64:
        metric = f"Cons@{facts.num_samples}"
    return {
        "title": line.title,
        "metric": metric,
        "unit": "percent" if line.is_percent else "rating",
        **asdict(number),
        "published": published_scores(line),
    }


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _same_text(a: str, b: str) -> bool:
    return a.strip().casefold() == b.strip().casefold()
