"""Sets of reals in words hold the same numbers as the intervals that they describe."""

from __future__ import annotations

import pytest

from r1.rewards.answers.check import check_answer
from r1.rewards.answers.question import read_question

DESCRIBED = [
    (r"(-\infty, 2) \cup (3, \infty)", "x is less than 2 or greater than 3"),
    (r"(-\infty, 2) \cup [3, \infty)", "x is less than 2 or greater than or equal to 3"),
    ("[1, 4]", "all real numbers from 1 to 4, inclusive"),
    ("(1, 4)", "all real numbers strictly between 1 and 4"),
    (r"(-\infty, 0) \cup (0, \infty)", "All real numbers except 0"),
    (r"(0, \infty)", "the positive reals"),
    (r"[0, \infty)", "all non-negative real numbers"),
    (r"x \ge 3", "x is at least 3"),
    ("(0, 4)", "|x - 2| < 2"),
    ("[-1, 2]", r"|2x - 1| \le 3"),
]


@pytest.mark.parametrize(("interval", "words"), DESCRIBED)
def test_each_description_is_its_interval_and_no_other(interval: str, words: str) -> None:
    nothing_asked = read_question(None)
    for other, _ in DESCRIBED:
        finding = check_answer(other, words, nothing_asked)
        assert finding.is_equal is (other == interval), (other, finding)
