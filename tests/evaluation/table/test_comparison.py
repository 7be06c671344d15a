from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import comb
from pathlib import Path
from typing import Any

import pytest

from r1.cli.app import app
from r1.evaluation.table import comparison_report
from r1.evaluation.table.comparison import compare, compare_records, normal_p_value, sign_p_value
from r1.evaluation.table.comparison_report import comparison_text, write_comparison
from r1.run_log import RunError
from tests.evaluation.evaluation_folders import PageChecker, make_record, write_row


def records_of(scores: Mapping[str, Sequence[float | None]], **fields: Any) -> list[dict[str, Any]]:
    return [
        make_record(name, index, reward=reward, **fields)
        for name, rewards in scores.items()
        for index, reward in enumerate(rewards)
    ]


A: dict[str, list[float | None]] = {
    "q1": [1.0, 0.0],
    "q2": [0.0, 0.0],
    "q3": [1.0, 1.0],
    "q4": [None, None],
    "q5": [1.0, 1.0],
}
B: dict[str, list[float | None]] = {
    "q1": [1.0, 1.0],
    "q2": [0.0, 1.0],
    "q3": [1.0, 1.0],
    "q4": [1.0, 1.0],
    "q6": [0.0, 0.0],
}


def test_a_row_is_compared_on_the_questions_that_both_have_graded() -> None:
    row = compare_records("gsm8k", records_of(A), records_of(B))
    # q1 +1/2, q2 +1/2, q3 0; q4 is ungraded in a, q5 and q6 are in one only.
    assert row.paired.difference == pytest.approx(1 / 3)
    assert row.paired.error == pytest.approx((1 / 12) ** 0.5 / 3**0.5)
    assert (row.mean_a, row.mean_b) == (pytest.approx(0.5), pytest.approx(2.5 / 3))
    assert (row.num_b_better, row.num_a_better, row.num_equal) == (2, 0, 1)
    assert (row.paired.num_questions, row.only_a, row.only_b) == (3, 1, 2)
    # Each model: one question of three varies, with variance 1/2 over 2 samples.
    assert row.rerun_error == pytest.approx((2 * 0.25) ** 0.5 / 3)
    assert row.p_value == pytest.approx(0.0455, abs=1e-4)  # z = 2
    assert row.sign_p_value == 0.5
    assert [pair.problem_id for pair in row.most_different] == ["q1", "q2"]


def test_the_other_way_round_is_the_same_with_the_sign_changed() -> None:
    there = compare_records("r", records_of(A), records_of(B))
    back = compare_records("r", records_of(B), records_of(A))
    assert back.paired.difference == -there.paired.difference
    assert (back.paired.low, back.paired.high) == (-there.paired.high, -there.paired.low)
    assert (back.p_value, back.sign_p_value) == (there.p_value, there.sign_p_value)
    assert (back.num_a_better, back.only_a) == (there.num_b_better, there.only_b)


def test_p_values() -> None:
    assert normal_p_value(0.0196, 0.01) == pytest.approx(0.05, abs=1e-4)
    assert normal_p_value(-0.0196, 0.01) == normal_p_value(0.0196, 0.01)
    assert normal_p_value(0.1, None) is None and normal_p_value(0.1, 0.0) is None
    assert sign_p_value(0, 0) is None and sign_p_value(3, 3) == 1.0
    assert sign_p_value(1, 9) == pytest.approx(2 * (1 + 10) / 1024)
    tail = sum(comb(5000, count) for count in range(2401))
    assert sign_p_value(2400, 2600) == sign_p_value(2600, 2400) == 2 * tail / 2**5000


def test_what_is_not_the_same_is_refused_or_said() -> None:
    changed = records_of(B, question="What else?")
    with pytest.raises(RunError, match="question 'q1' is not the same in both"):
        compare_records("r", records_of(A), changed)
    with pytest.raises(RunError, match="at least one graded question in common"):
        compare_records("r", records_of({"q5": [1.0]}), records_of({"q6": [1.0]}))
    row = compare_records("r", records_of(A), records_of(B, grader_version="test-2"))
    assert row.notes == ["graded by test-1 and by test-2"]


def make_folders(folder: Path, model_b: str = "b") -> tuple[Path, Path]:
    write_row(folder / "x", "gsm8k", records_of(A), 5, model="a")
    write_row(folder / "y", "gsm8k", records_of(B), 5, model=model_b)
    write_row(folder / "x", "math500", records_of(A), 5, model="a")
    write_row(folder / "y", "cmath", records_of(A), 5, model=model_b)
    return folder / "x", folder / "y"


def test_folders_are_compared_row_by_row(tmp_path: Path) -> None:
    x, y = make_folders(tmp_path)
    comparison = compare(x, y)
    assert (comparison.name_a, comparison.name_b) == ("a", "b")
    assert [row.row for row in comparison.rows] == ["gsm8k"]
    assert (comparison.rows_only_a, comparison.rows_only_b) == (["math500"], ["cmath"])
    # One row's folder or file against another is one comparison, whatever the names.
    assert compare(x / "math500", y / "cmath" / "records.jsonl").rows[0].paired.difference == 0.0
    write_row(tmp_path / "z", "aime2024", records_of(A), 5)
    write_row(tmp_path / "z", "amc23", records_of(A), 5)
    with pytest.raises(RunError, match="no row in common: math500, gsm8k and aime2024, amc23"):
        compare(x, tmp_path / "z")
    with pytest.raises(RunError, match="no records there"):
        compare(x, tmp_path / "empty")


def test_the_comparison_as_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison_report, "has_matplotlib", lambda: False)
    comparison = compare(*make_folders(tmp_path, model_b="<script>b|"))
    paths = write_comparison(comparison, tmp_path / "out")
    assert [path.name for path in paths] == [f"comparison.{k}" for k in ("json", "md", "html")]
    values = json.loads(paths[0].read_text())
    assert values["rows"][0]["paired"]["num_questions"] == 3
    assert {pair["problem_id"] for pair in values["rows"][0]["questions"]} == {*A, *B}
    text = paths[1].read_text()
    assert text.startswith(comparison_text(comparison))
    assert "| gsm8k | 50.0 | 83.3 | +33.33 | 16.67 | +0.67 to +66.00 |" in text
    assert "| 2 / 0 / 1 | 0.500 | 3 | 1 / 2 |" in text and "- only in a: math500" in text
    assert "| q1 | What is q1? | 50.0 | 100.0 | +50.00 |" in text
    checker = PageChecker(paths[2].read_text())
    assert "script" not in checker.tags and "<script>b|" in checker.text
    assert "+33.33" in checker.text and "the questions that differ most" in checker.text


def test_the_picture_of_a_comparison(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    paths = write_comparison(compare(*make_folders(tmp_path, "b $x_{")), tmp_path / "out")
    assert paths[-1].read_bytes().startswith(b"\x89PNG")


def test_r1_evaluate_compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, y = make_folders(tmp_path)
    app(["evaluate", "--compare", str(x), str(y)], standalone_mode=False)
    assert capsys.readouterr().out.startswith("# b minus a, on the same questions")
