"""One row of the table from its records: the numbers, their errors, the published scores."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from r1.evaluation.metrics import VOTE_RULE
from r1.evaluation.record_file import Record
from r1.evaluation.result import EvaluationResult, compute_result
from r1.evaluation.table.benchmarks import Benchmark, Line, published_scores
from r1.evaluation.table.scores import Number, row_numbers
from r1.evaluation.voting import voting_verifier
from r1.records import Problem
from r1.run_log import write_json

if TYPE_CHECKING:
    from r1.evaluation.run_evaluate import EvaluateConfig
    from r1.tasks.task import Task

# What is shown of the scores that a file of responses brings itself.
_COMPARED = ("pass_at_", "cons_at_", "error_by_question", "rerun_error")
RECORDS_FILE, RESULT_FILE, CONFIG_FILE = "records.jsonl", "result.json", "config.json"


@dataclass(frozen=True, slots=True)
class RowFacts:
    """What a result says beside its numbers: whose they are, and how they were made.

    `problems` are those that were asked, `settings` is the row's config as resolved,
    `notes` what a reader must know, and `file_scores` the numbers by the scores that a
    file of responses brought itself.
    """

    model: str
    problems: Sequence[Problem]
    num_samples: int
    grader_version: str
    settings: Mapping[str, Any]
    notes: Sequence[str] = ()
    file_scores: Mapping[str, Any] | None = None


def row_facts(
    config: EvaluateConfig, task: Task, problems: Sequence[Problem], notes: Sequence[str] = ()
) -> RowFacts:
    """The facts of a row that asks `problems` as its config says.

    A task's `label`, where it has one, says what departs from the published protocol.
    """
    label = str(getattr(task, "label", ""))
    return RowFacts(
        model=config.model,
        problems=problems,
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
    own = row_numbers(benchmark.name, records, facts.problems)
    numbers = {**numbers_of(result), **own.numbers}
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
        "notes": [*facts.notes, *own.notes],
        "lines": [
            _line(line, numbers.get(line.number, missing), facts) for line in benchmark.lines
        ],
        "num_present": result.num_present,
        "num_asked": result.num_asked,
        "num_ungraded": result.num_ungraded,
        "num_tokens": sum(record["num_tokens"] or 0 for record in records),
        "vote_rule": VOTE_RULE if benchmark.votes else "",
        "evaluation": result.to_json(),
        "file_scores": facts.file_scores,
        "settings": dict(facts.settings),
    }
    write_json(folder / RESULT_FILE, row)
    return result


def measure(benchmark: Benchmark, records: Sequence[Record], facts: RowFacts) -> EvaluationResult:
    """Every metric of the records, with the vote that suits the row's answers."""
    counts = {"num_problems": len(facts.problems), "num_samples": facts.num_samples}
    if benchmark.votes != "math":
        same = None if benchmark.votes is None else _same_text
        return compute_result(records, **counts, equivalent=same)
    with voting_verifier() as same_answer:
        return compute_result(records, **counts, equivalent=same_answer)


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


def numbers_text(folder: Path) -> list[str]:
    """Every number of the rows in a folder, a line each, with how a majority is found."""
    lines: list[str] = []
    for path in sorted(folder.rglob(RESULT_FILE)):
        row = json.loads(path.read_text(encoding="utf-8"))
        own = {name: value for name, value in row["evaluation"].items() if value not in (None, {})}
        lines += [f"{name:<34}{_shown(value)}" for name, value in own.items()]
        lines += [f"{'votes':<34}{row['vote_rule']}"] if row["vote_rule"] else []
        for name, value in (row["file_scores"] or {}).items():
            if name.startswith(_COMPARED) and value is not None:
                lines.append(f"{name + ' (file)':<34}{_shown(value)}")
    return lines


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_shown, value))
    return f"{value:.4f}" if isinstance(value, float) else str(value)
