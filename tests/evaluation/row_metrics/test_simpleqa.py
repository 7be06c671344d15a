from __future__ import annotations

import pytest

from r1.evaluation.row_metrics.simpleqa import simpleqa_result
from r1.tasks.judged.answers import simpleqa_parts


def test_a_hand_made_table() -> None:
    labels = ["CORRECT"] * 3 + ["INCORRECT"] * 2 + ["NOT_ATTEMPTED"] * 5
    records = [{"parts": simpleqa_parts(label)} for label in labels]
    result = simpleqa_result([*records, {"parts": {"format": 1.0}}])
    assert (result.correct, result.attempted, result.num_judged) == (0.3, 0.5, 10)
    assert result.correct_given_attempted == pytest.approx(0.6)
    assert result.f_score == pytest.approx(2 * 0.6 * 0.3 / 0.9)


def test_nothing_attempted_and_nothing_judged() -> None:
    result = simpleqa_result([{"parts": simpleqa_parts("NOT_ATTEMPTED")}])
    assert (result.correct, result.correct_given_attempted, result.f_score) == (0, 0, 0)
    with pytest.raises(ValueError, match="at least one judged"):
        simpleqa_result([{"parts": {}}])
