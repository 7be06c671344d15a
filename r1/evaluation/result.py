"""From records of graded samples to the numbers of one evaluation.

A record is one JSON row for each (question, sample). Every number of a result is
computed from records alone, so that it can be checked, and computed again, without
the model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from r1.evaluation.metrics import (
    Vote,
    confidence_interval_95,
    cons_at_k,
    count_samples,
    error_by_question,
    pass_at_1,
    pass_at_k,
    rerun_error,
)

Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class EvaluationResult:
    """What one evaluation measured; a number that could not be measured is None.

    `pass_at_k` holds the unbiased estimates for k = 2, 4, ... up to the samples of
    a question, and `cons_at_k` is the majority vote of all `num_samples` of them, ties by
    expectation (`cons_at_k_ties_to_first`: the answer that came first wins).
    `error_by_question` and `rerun_error` are standard errors of `pass_at_1`: for
    other questions, and for the same ones sampled again. Rates are over all samples
    that have the measurement. `seconds` is the time to generate and grade.
    """

    pass_at_1: float | None
    pass_at_1_ci95: tuple[float, float]
    pass_at_k: Mapping[int, float]
    cons_at_k: float | None
    mean_response_tokens: float | None
    format_rate: float | None
    language_consistency: float | None
    truncated_rate: float | None
    num_problems: int
    num_samples: int
    num_ungraded: int
    num_missing: int
    error_by_question: float | None
    rerun_error: float | None
    seconds: float
    cons_at_k_ties_to_first: float | None = None
    other_parts: Mapping[str, float] = field(default_factory=dict)

    @property
    def num_asked(self) -> int:
        """Samples that were asked for; `num_missing` of them are not there."""
        return self.num_problems * self.num_samples

    @property
    def num_present(self) -> int:
        """Samples that were answered, the ungraded ones too."""
        return self.num_asked - self.num_missing

    def to_json(self) -> dict[str, Any]:
        """The fields of report.json: `pass_at_2`, ... and `cons_at_8` named by their k."""
        values = asdict(self)
        by_k = {f"pass_at_{k}": value for k, value in values.pop("pass_at_k").items()}
        consensus = {
            f"cons_at_{self.num_samples}": values.pop("cons_at_k"),
            f"cons_at_{self.num_samples}_ties_to_first": values.pop("cons_at_k_ties_to_first"),
        }
        values["pass_at_1_ci95"] = list(self.pass_at_1_ci95)
        return {"pass_at_1": values.pop("pass_at_1"), **by_k, **consensus, **values}


def compute_result(
    records: Sequence[Record],
    *,
    num_problems: int,
    num_samples: int,
    equivalent: Callable[[str, str], bool] | None,
) -> EvaluationResult:
    """Compute every metric from records.

    `num_problems` questions were to be answered `num_samples` times each; what is not
    among the records is counted as missing. `equivalent(a, b)` says whether two
    extracted answers mean the same, for the majority vote; None where nothing is voted on.
    """
    questions = group_by_question(records)
    scores = [[record["reward"] for record in question] for question in questions]
    counts = count_samples(scores, num_samples)
    num_absent = (num_problems - len(questions)) * num_samples
    mean = _or_none(lambda: pass_at_1(scores))
    error = error_by_question(scores)
    votes = [
        [Vote(r["extracted"] or None, r["reward"]) for r in question] for question in questions
    ]
    consensus = consensus_by_first = None
    if equivalent is not None:
        is_same = equivalent
        consensus = _or_none(lambda: cons_at_k(votes, num_samples, is_same))
        consensus_by_first = _or_none(lambda: cons_at_k(votes, num_samples, is_same, "first"))
    parts = {name for record in records for name in record["parts"]}
    return EvaluationResult(
        pass_at_1=mean,
        pass_at_1_ci95=(0.0, 1.0) if mean is None else confidence_interval_95(mean, error),
        pass_at_k=_pass_at_powers_of_two(scores, num_samples, is_complete=num_absent == 0),
        cons_at_k=consensus,
        cons_at_k_ties_to_first=consensus_by_first,
        mean_response_tokens=_mean(
            [record["num_tokens"] for record in records if record["num_tokens"] is not None]
        ),
        format_rate=_mean_part(records, "format"),
        language_consistency=_mean_part(records, "language"),
        truncated_rate=_mean([float(r["finish_reason"] == "length") for r in records]),
        num_problems=num_problems,
        num_samples=num_samples,
        num_ungraded=counts.ungraded,
        num_missing=counts.missing + num_absent,
        error_by_question=error,
        rerun_error=rerun_error(scores),
        seconds=max((float(record["seconds"]) for record in records), default=0.0),
        other_parts={
            name: value
            for name in sorted(parts - {"format", "language"})
            if (value := _mean_part(records, name)) is not None
        },
    )


def group_by_question(records: Sequence[Record]) -> list[list[Record]]:
    """Records of each question in order of sample index; questions by first appearance."""
    questions: dict[str, list[Record]] = {}
    for record in records:
        questions.setdefault(record["problem_id"], []).append(record)
    return [sorted(q, key=lambda record: record["sample_index"]) for q in questions.values()]


def _pass_at_powers_of_two(
    scores: Sequence[Sequence[float | None]], num_samples: int, *, is_complete: bool
) -> dict[int, float]:
    """pass@2, 4, ...; empty when samples are missing or ungraded, or scores are fractions."""
    if not is_complete or any(len(question) < num_samples for question in scores):
        return {}
    ks = [2**i for i in range(1, num_samples.bit_length()) if 2**i <= num_samples]
    values = {k: _or_none(lambda k=k: pass_at_k(scores, k)) for k in ks}
    return {k: value for k, value in values.items() if value is not None}


def _or_none(compute: Callable[[], float]) -> float | None:
    """What the metrics refuse to estimate (missing or ungraded samples) is shown as absent."""
    try:
        return compute()
    except ValueError:
        return None


def _mean_part(records: Sequence[Record], name: str) -> float | None:
    return _mean([record["parts"][name] for record in records if name in record["parts"]])


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
