from __future__ import annotations

import math
from typing import Any

import pytest

from r1.evaluation.judges.compare import compare_records, grade_answer, read_grade
from tests.tasks.judged.judge_script import ScriptedJudge


def record(problem_id: str, answer: str, sample_index: int = 0) -> dict[str, Any]:
    question = f"What is {problem_id}?"
    return {
        "problem_id": problem_id,
        "sample_index": sample_index,
        "question": question,
        "answer": answer,
    }


class PrefersGood:
    """Prefers the answer that says `good`, wherever it stands."""

    name = "fair"

    def ask(self, prompt: str, system: str = "", attempt: int = 0) -> str:
        first = prompt.partition("</answer_a>")[0]
        is_good = ["good" in first, "good" in prompt.partition("</answer_a>")[2].split("Which")[0]]
        return "[[A=B]]" if is_good[0] == is_good[1] else "[[A>B]]" if is_good[0] else "[[B>A]]"

    def first_token(self, prompt: str, system: str = "", attempt: int = 0) -> dict[str, float]:
        return {}


def test_two_runs_compared() -> None:
    first = [record("a", "bad"), record("b", "bad"), record("c", "bad"), record("d", "x")]
    second = [record("a", "good"), record("b", "bad"), record("c", "good"), record("e", "x")]
    result = compare_records(PrefersGood(), first, second)
    assert result.win_rate == pytest.approx((1 + 0.5 + 1) / 3)
    assert result.standard_error == pytest.approx(math.sqrt(1 / 12 / 3))
    assert (result.num_questions, result.num_unpaired, result.num_without_verdict) == (3, 2, 0)
    assert (result.judge, result.prompt.split("#")[0]) == ("fair", "pairwise-1")
    turned = compare_records(PrefersGood(), second, first)
    assert turned.win_rate == pytest.approx(1 - (1 + 0.5 + 1) / 3)


def test_a_judge_that_likes_the_first_place_decides_nothing() -> None:
    judge = ScriptedJudge(["[[A>>B]]"])
    assert compare_records(judge, [record("a", "x")], [record("a", "y")]).win_rate == 0.5


def test_no_answer_loses_and_failures_are_counted() -> None:
    judge = ScriptedJudge([None])
    first = [record("a", ""), record("b", "x"), record("c", ""), record("d", "x")]
    second = [record("a", "y"), record("b", ""), record("c", ""), record("d", "y")]
    result = compare_records(judge, first, second)
    assert result.win_rate == pytest.approx((1 + 0 + 0.5) / 3)
    assert result.num_without_verdict == 1
    empty = compare_records(judge, [], [])
    assert (empty.win_rate, empty.standard_error) == (None, None)


@pytest.mark.parametrize(
    ("reply", "grade"),
    [
        ("Fine.\n\n[[7]]", 7),
        ("[[10]]", 10),
        ("[[0]]", None),
        ("[[11]]", None),
        ("[[3]] or [[4]]", None),
        ("7", None),
    ],
)
def test_grades(reply: str, grade: int | None) -> None:
    assert read_grade(reply) == grade


def test_one_answer_graded() -> None:
    judge = ScriptedJudge(["Good.\n[[8]]"])
    assert grade_answer(judge, "Why?", "Because.") == (8, "Good.\n[[8]]")
    assert "<answer>\nBecause.\n</answer>" in judge.asked[0][0]
    assert grade_answer(ScriptedJudge(["none"]), "Why?", "B.") == (None, "no grade in 'none'")
