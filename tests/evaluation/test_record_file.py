from __future__ import annotations

from typing import Any

import pytest

from r1.evaluation.record_file import join_records, refuse_mixture
from r1.run_log import RunError


def record(problem: str, sample: int, text: str = "x", **fields: Any) -> dict[str, Any]:
    base = {"problem_id": problem, "sample_index": sample, "text": text, "seconds": 1.0}
    return {**base, "settings_hash": "s", "grader_version": "g", **fields}


def test_disjoint_records_add_up() -> None:
    joined = join_records([("a", [record("p", 0)]), ("b", [record("p", 1), record("q", 0)])])
    assert list(joined) == [("p", 0), ("p", 1), ("q", 0)]


def test_equal_records_are_one_whatever_their_times() -> None:
    joined = join_records([("a", [record("p", 0)]), ("b", [record("p", 0, seconds=9.0)])])
    assert [row["seconds"] for row in joined.values()] == [1.0]


def test_two_samples_under_one_key_are_refused_by_name() -> None:
    with pytest.raises(RunError, match="question 'p', sample 3 is in a and in b with another text"):
        join_records([("a", [record("p", 3, "x")]), ("b", [record("p", 3, "y")])])


@pytest.mark.parametrize("field", ["settings_hash", "grader_version"])
def test_other_settings_and_graders_do_not_mix(field: str) -> None:
    rows = [record("p", 0), record("p", 1, **{field: "other"})]
    with pytest.raises(RunError, match=f"a and b: {field} differs"):
        refuse_mixture(rows, "a and b")
    refuse_mixture(rows[:1], "a and b")
