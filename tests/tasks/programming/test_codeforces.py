from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from r1.evaluation.row_metrics.codeforces_rating import codeforces_numbers
from r1.records import Completion
from r1.tasks.programming.code_problems import CodeTask
from r1.tasks.task import TaskConfig, TaskError, build_task

PROBLEM = {
    "contest_id": 77,
    "index": "A",
    "title": "Half",
    "description": "Print half of n.",
    "input_format": "An integer n.",
    "output_format": "A number; an error of 1e-6 is allowed.",
    "examples": [{"input": "3", "output": "1.5"}],
    "time_limit": 1.0,
    "memory_limit": 256.0,
    "rating": 800,
    "tolerance": 1e-6,
    "official_tests": [{"input": "3", "output": "1.5"}, {"input": "2", "output": "1"}],
}
CONTEST = {
    "contest_id": 77,
    "problems": [{"index": "A", "points": 500}],
    "participants": [{"rating": 1500, "points": 500}, {"rating": 1500, "points": 0}],
}


def task_of(folder: Path, *rows: dict[str, Any], **options: Any) -> CodeTask:
    path = folder / "codeforces.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = build_task(TaskConfig(name="codeforces", path=str(path), options=options))
    assert isinstance(task, CodeTask)
    return task


def test_a_problem_and_its_statement(tmp_path: Path) -> None:
    [problem] = task_of(tmp_path, PROBLEM).problems("test")
    assert problem.id == "77A"
    assert problem.question == (
        "You will be given a competitive programming problem. Write a C++17 program that reads "
        "from standard input, writes to standard output and solves it within the limits. Put the "
        "whole program into one ```cpp block.\n\n# Half\n\nTime limit: 1 s; Memory limit: 256 MB"
        "\n\nPrint half of n.\n\n## Input\nAn integer n.\n\n## Output\nA number; an error of 1e-6 "
        "is allowed.\n\n## Example 1\nInput:\n```\n3\n```\nOutput:\n```\n1.5\n```"
    )
    python = task_of(tmp_path, PROBLEM, language="python").problems("test")[0]
    assert "one ```python block" in python.question


def test_grades_with_the_problems_tolerance(tmp_path: Path) -> None:
    task = task_of(tmp_path, PROBLEM)
    if task.checker.fault():
        pytest.skip(task.checker.fault())
    [problem] = task.problems("test")
    for shown, reward in (("int(input()) / 2 + 1e-8", 1.0), ("int(input()) // 2", 0.0)):
        reply = Completion(f"```python\nprint({shown})\n```")
        assert task.grade(problem, reply).reward == reward


def test_the_rating_from_records(tmp_path: Path) -> None:
    standings = tmp_path / "standings.jsonl"
    standings.write_text(json.dumps(CONTEST))
    ratings = tmp_path / "ratings.jsonl"
    ratings.write_text('{"rating": 2000, "count": 1}\n{"rating": 1000, "count": 3}\n')
    task = task_of(tmp_path, PROBLEM, standings=str(standings), ratings=str(ratings))
    problems = task.problems("test")
    solved = [{"problem_id": "77A", "sample_index": 0, "reward": 1.0}]
    failed = [{"problem_id": "77A", "sample_index": 0, "reward": 0.0}]
    # Solved ties with the best (place 1, the upper bound), failed ties with the second.
    assert codeforces_numbers(solved, problems)["rating"] == pytest.approx(1600, abs=1e-4)
    numbers = codeforces_numbers(failed, problems)
    assert numbers["rating"] == pytest.approx(1500, abs=1e-4)
    assert numbers["percentile"] == 75.0


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([{**PROBLEM, "generated_checker": "import sys"}], {}, "skip_checkers=true"),
        ([{**PROBLEM, "index": None}], {}, "index is None, not text"),
        ([PROBLEM], {"language": "rust"}, "known: cpp, python"),
        ([PROBLEM], {"standings": "absent.jsonl"}, "no standings.jsonl"),
    ],
)
def test_mistakes_are_named(
    tmp_path: Path, rows: list[dict[str, Any]], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(TaskError, match=message):
        task_of(tmp_path, *rows, **options)


def test_problems_with_checkers_can_be_left_out(tmp_path: Path) -> None:
    other = {**PROBLEM, "index": "B", "generated_checker": "import sys"}
    task = task_of(tmp_path, PROBLEM, other, skip_checkers=True)
    assert [problem.id for problem in task.problems("test")] == ["77A"]


def test_standings_need_ratings(tmp_path: Path) -> None:
    standings = tmp_path / "standings.jsonl"
    standings.write_text(json.dumps({**CONTEST, "participants": [{"points": 3}]}))
    with pytest.raises(TaskError, match=r"standings.jsonl:1: a participant without a rating"):
        task_of(tmp_path, PROBLEM, standings=str(standings))
    standings.write_text(json.dumps({**CONTEST, "participants": []}))
    with pytest.raises(TaskError, match="needs 'problems' and 'participants'"):
        task_of(tmp_path, PROBLEM, standings=str(standings))
