"""SimpleQA's scores beside the share that is correct, from the records of a run.

As simpleqa_eval.py of openai/simple-evals (MIT) aggregates them; Chinese SimpleQA's too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class SimpleQAResult:
    """Shares in [0, 1] of the judged records.

    `f_score` is the harmonic mean of `correct` and `correct_given_attempted`: guessing
    raises the first and lowers the second.
    """

    correct: float
    attempted: float
    correct_given_attempted: float
    f_score: float
    num_judged: int


def simpleqa_result(records: Sequence[Mapping[str, Any]]) -> SimpleQAResult:
    """Compute the scores of a run; raises ValueError when no record is judged."""
    judged = [record["parts"] for record in records if "attempted" in record["parts"]]
    if not judged:
        raise ValueError("SimpleQA's scores need at least one judged record; there is none")
    correct = sum(parts["correct"] for parts in judged) / len(judged)
    attempted = sum(parts["attempted"] for parts in judged) / len(judged)
    given = correct / attempted if attempted else 0.0
    f_score = 2 * given * correct / (given + correct) if correct else 0.0
    return SimpleQAResult(correct, attempted, given, f_score, len(judged))
