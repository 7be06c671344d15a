"""`r1 grade`: rows in, verdicts and rates out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from r1.cli.app import app
from r1.evaluation.grade_pairs import run_grade
from r1.tasks.task import TaskError

ROWS = [
    {"gold": "5", "pred": "x = 5", "label": True},
    {"gold": "5", "pred": "6", "label": 0},
    {"gold": "2", "pred": "2, 3", "label": False},
    {"gold": ["3", "-3"], "pred": "<think>\nhm\n</think>\nIt is \\boxed{-3}.", "label": 1},
    {"gold": r"\frac{1}{3}", "pred": "0.33", "question": "Find $p$.", "label": True},
    {"gold": "7", "pred": "<think>\nis it \\boxed{7}", "label": False},
]


def pairs_file(folder: Path, rows: list[Any]) -> Path:
    file = folder / "pairs.jsonl"
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def test_a_verdict_a_line_and_the_rates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    verdicts = run_grade(pairs_file(tmp_path, ROWS), as_json=True)
    assert [verdict.correct for verdict in verdicts] == [True, False, False, True, False, False]
    out, err = capsys.readouterr()
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["line"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert set(rows[0]) == {"line", "gold", "pred", "correct", "reason", "label"}
    assert err == (
        "accuracy 0.8333 (5/6); recall 0.6667 (2/3); false-positive rate 0.0000 (0/3); 0 ungraded\n"
    )


def test_without_labels_the_verdicts_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_grade(pairs_file(tmp_path, [{"gold": "5", "pred": "5"}, {"gold": "", "pred": "5"}]))
    out, err = capsys.readouterr()
    assert out == "1: correct: equal numbers\n2: ungraded: the gold answer is empty\n"
    assert err == "1 correct, 0 wrong, 1 ungraded\n"


def test_order_free(tmp_path: Path) -> None:
    file = pairs_file(tmp_path, [{"gold": "(1, 2, 3)", "pred": "(3, 2, 1)"}])
    assert [run_grade(file, order_free=free)[0].correct for free in (False, True)] == [False, True]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"pred": "5"}, "pairs.jsonl:1: no field 'gold'; the row has pred"),
        ({"gold": "5"}, "pairs.jsonl:1: no field 'pred'; the row has gold"),
        ({"gold": [], "pred": "5"}, "pairs.jsonl:1: gold must be a text or a list of texts"),
        ({"gold": "5", "pred": ["5"]}, "pairs.jsonl:1: pred must be a text"),
        ({"gold": "5", "pred": "5", "label": "yes"}, "pairs.jsonl:1: label must be true or false"),
        ("{broken", "pairs.jsonl:1: not valid JSON"),
        ("[1]", "pairs.jsonl:1: expected an object, got a list"),
    ],
)
def test_mistakes_in_the_file_name_the_line(tmp_path: Path, row: Any, message: str) -> None:
    with pytest.raises(TaskError) as error:
        run_grade(pairs_file(tmp_path, [row]))
    assert message in str(error.value) and "\n" not in str(error.value)


def test_the_command(tmp_path: Path) -> None:
    file = pairs_file(tmp_path, ROWS[:2])
    result = CliRunner().invoke(app, ["grade", str(file)])
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "1: correct: same expression",
        "2: wrong: different numbers",
    ]
    missing = CliRunner().invoke(app, ["grade", str(tmp_path / "none.jsonl")])
    assert missing.exit_code == 2
