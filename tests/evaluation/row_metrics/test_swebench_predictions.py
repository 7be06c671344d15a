from __future__ import annotations

import json
from pathlib import Path

import pytest

from r1.evaluation.row_metrics.swebench_predictions import choose_patch, write_predictions
from r1.tasks.task import TaskError


def patch(new: str) -> str:
    return f"--- a/x.py\n+++ b/x.py\n@@ -1 +1 @@\n-old\n+{new}\n"


def test_the_change_that_most_samples_make_is_chosen() -> None:
    first, same, other = patch("a = 1"), patch("a  =  1"), patch("a = 2")
    assert choose_patch([other, first, same]) == first
    assert choose_patch([other, first]) == other
    assert choose_patch([]) is None


def test_the_official_form(tmp_path: Path) -> None:
    records = [
        {"problem_id": "b-1", "sample_index": 1, "extracted": patch("y")},
        {"problem_id": "b-1", "sample_index": 0, "extracted": None},
        {"problem_id": "a-1", "sample_index": 0, "extracted": None},
    ]
    path, output = tmp_path / "records.jsonl", tmp_path / "predictions.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    assert write_predictions(path, output, "me") == (2, 1)
    assert [json.loads(line) for line in output.read_text().splitlines()] == [
        {"instance_id": "a-1", "model_name_or_path": "me", "model_patch": ""},
        {"instance_id": "b-1", "model_name_or_path": "me", "model_patch": patch("y")},
    ]


def test_other_records_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    with pytest.raises(TaskError, match="no such file"):
        write_predictions(path, tmp_path / "out", "me")
    path.write_text(json.dumps({"problem_id": "p", "sample_index": 0, "extracted": "42"}) + "\n")
    with pytest.raises(TaskError, match="not records of a SWE-bench row"):
        write_predictions(path, tmp_path / "out", "me")
