"""Extraction and verification of final answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import pytest

from r1.rewards.math import (
    MathVerifier,
    extract_answer,
    extract_boxed,
    is_formula,
    parse_number,
)

UNREADABLE = "the answer cannot be read as a value"


@pytest.fixture(scope="module")
def verifier() -> Iterator[MathVerifier]:
    with MathVerifier(num_workers=1, timeout_seconds=20.0) as shared:
        yield shared


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"so \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        (r"\boxed{1}, no, \fbox{2}", "2"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{\left\{ x \right.}", r"\left\{ x \right."),
        (r"\boxed {4}", "4"),
        (r"$\boxed 7$.", "7"),
        (r"\boxed{3} and then \boxed{4", "3"),
        (r"\boxed{\boxed{5}}", "5"),
        (r"\boxed{}", ""),
        (r"\boxes{1}", None),
        ("nothing", None),
    ],
)
def test_extract_boxed(text: str, expected: str | None) -> None:
    assert extract_boxed(text) == expected


def test_a_loop_that_opens_boxes_is_read_in_one_pass() -> None:
    # One search for each of 20,000 closing braces would take minutes.
    assert extract_boxed(r"\boxed{ x " * 20_000) is None
    assert extract_boxed(r"\boxed{ x " * 20_000 + "}") == "x"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"Answer: 1. <answer>\boxed{2}</answer>", "2"),
        ("Answer: 1 <answer> 3 </answer>", "3"),
        ("<answer>1</answer> no <answer>x = 3", "x = 3"),
        ("It is 7.\nAnswer: 42", "42"),
        ("**Answer:** $\\frac12$", "$\\frac12$"),
        ("The answer is 5 because 2 + 3 = 5, not 6.", "5"),
        ("The final answer is $x = 2$, as claimed.", "x = 2"),
        ("The answer is not 42.", "not 42"),
        (r"So $\boxed{-2}$ and $\boxed{1}$.", "-2, 1"),
        (r"$\boxed{4}$, so the answer is \boxed{4}.", "4"),
        ("Answer: Paris.", "Paris"),
        ("因此，答案是：12。", "12"),
        ("答案：-3.5", "-3.5"),
        ("3 apples and 1,234 pears", "1,234"),
        ("so x=-7", "-7"),
        ("12-5=7.", "7"),
        ("about 3.14.", "3.14"),
        ("half, 1/2", "1/2"),
        (r"\boxed{}", None),
        ("<answer></answer>", None),
        ("none here", None),
        ("", None),
    ],
)
def test_extract_answer(text: str, expected: str | None) -> None:
    assert extract_answer(text) == expected


@pytest.mark.parametrize(
    ("text", "number", "whole"),
    [
        (r"\frac{1}{2}", "2", r"\frac{1}{2}"),
        ("(3, 4)", "4", "(3, 4)"),
        ("east", None, "east"),
        (r"it is \boxed{5}, not 6", "5", "5"),
        ("The answer is 5, not 6.", "5", "5"),
        ("  ", None, None),
    ],
)
def test_without_a_mark_the_answer_is_the_last_number_or_the_whole(
    text: str, number: str | None, whole: str | None
) -> None:
    assert (extract_answer(text), extract_answer(text, is_whole=True)) == (number, whole)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"\frac{1}{2}", True),
        (r"$10\text{ apples}$", True),
        ("2^10", True),
        (r"10,\!080", True),
        ("(3, 4)", True),
        ("[0, 1)", True),
        ("42", False),
        ("(42)", False),
        ("1,234", False),
        ("42 apples", False),
        (r"half of it, so $\frac{1}{2}$", False),
        ("3 + 4", False),
    ],
)
def test_formulas(text: str, expected: bool) -> None:
    assert is_formula(text) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1,234", Fraction(1234)),
        ("-0.50", Fraction(-1, 2)),
        (".5", Fraction(1, 2)),
        ("5.", Fraction(5)),
        ("3/-4", Fraction(-3, 4)),
        (r"-\frac12", Fraction(-1, 2)),
        (r"\dfrac{-3}{4}", Fraction(-3, 4)),
        ("$+3$", Fraction(3)),
        ("−3", Fraction(-3)),
        (r"\$32,\!348", Fraction(32348)),
        (r"\text{7}", Fraction(7)),
        ("1 1/2", Fraction(3, 2)),
        ("-2 3/4", Fraction(-11, 4)),
        ("1 3/2", None),
        ("1 1/0", None),
        ("1,23", None),
        ("1/0", None),
        (r"\frac{1}{0}", None),
        ("50%", None),
        ("5 cm", None),
        ("-", None),
        (".", None),
        ("", None),
        ("9" * 5000, None),
    ],
)
def test_parse_number(text: str, expected: Fraction | None) -> None:
    assert parse_number(text) == expected


@pytest.mark.parametrize(
    ("gold", "answer", "is_correct", "reason"),
    [
        ("12", "12.0", True, "equal numbers"),
        ("1234", "$1,234$", True, "equal numbers"),
        (r"\frac{1}{2}", "0.5", True, "equal numbers"),
        ("0.333", "1/3", True, "equal values"),
        ("12", "-12", False, "different numbers"),
        ("5", "five", True, "equal values"),
        ("11/2", "1 1/2", False, "different numbers"),
        ("1.5", "1 1/2", True, "equal numbers"),
        ("23", "2 3", False, UNREADABLE),
        ("2 3", "23", False, "different text"),
        ("2 34", "23 4", False, "different text"),
        ("23", r"2\,3", False, UNREADABLE),
        ("23", r"$2\ 3$", False, UNREADABLE),
        ("1234", "1 23 4", False, UNREADABLE),
        ("2 3", r"2\; 3", True, "same text"),
        ("1000", "1 000", True, "equal numbers"),
        ("1000.0", "-1 000", False, "different values"),
        ("12345678.0", "12 345 678", True, "equal numbers"),
        ("12 345.5", "12345.50", True, "equal numbers"),
        ("0 123", "123", False, "different text"),
        (r"10\,080", "10080", True, "equal numbers"),
        (r"10,\!080", "10080", True, "equal numbers"),
        ("x = 10\\,000", "x=10000", True, "same text"),
        ("1/10\\,000", "0.0001", True, "equal numbers"),
        ("(C)", "c", True, "same option"),
        (r"\text{Evelyn}", "evelyn", True, "same words"),
        ("east", "seat", False, "different words"),
        ("12", None, False, "no answer"),
        ("12", "  ", False, "no answer"),
        ("x+1", "x+" * 2000, False, "the answer is longer than 1000 characters"),
        ("", "1", None, "the gold answer is empty"),
    ],
)
def test_verdicts_that_need_no_worker(
    gold: str, answer: str | None, is_correct: bool | None, reason: str
) -> None:
    with MathVerifier(num_workers=1, timeout_seconds=0.001) as impatient:
        verdict = impatient.verify(gold, answer)
    assert (verdict.is_correct, verdict.reason) == (is_correct, reason)


@pytest.mark.parametrize(
    ("gold", "answer", "is_correct"),
    [
        ("x^2+1", "1+x^2", True),
        ("5", "x=5", True),
        ("5", "5 cm", True),
        (r"50\%", "0.5", True),
        ("1,2,3", "3,2,1", True),
        ("(1,2)", "(2,1)", False),
        (r"\frac{\sqrt{3}}{3}", r"\frac{1}{\sqrt{3}}", True),
        ("[0,1)", "[0,1]", False),
        ("x+1", "x-1", False),
        ("x+1", "garbage (((", False),
        (r"x+1", r"\frac{", False),
    ],
)
def test_verdicts_of_the_worker(
    verifier: MathVerifier, gold: str, answer: str, is_correct: bool
) -> None:
    assert verifier.verify(gold, answer).is_correct is is_correct


def test_readable_golds(verifier: MathVerifier) -> None:
    for gold in (
        "12",
        r"\frac{1}{2}",
        "x^2+1",
        r"\text{Evelyn}",
        "(C)",
        r"\left(3, \frac{\pi}{2}\right)",
    ):
        assert verifier.is_readable(gold), gold
    for gold in (
        "",
        "  ",
        "see the figure on the last page of the long solution",
        "$",
        "it depends on the \\frac{",
    ):
        assert not verifier.is_readable(gold), gold


def test_a_hanging_expression_is_killed_and_the_next_one_is_answered() -> None:
    with MathVerifier(num_workers=1, timeout_seconds=1.5, num_attempts=1) as verifier:
        verdict = verifier.verify("5", "9^{9^{9^{9}}}")
        assert verdict.is_correct is None
        assert verdict.reason == "verifier failed: timeout after 1.5 s of CPU time"
        assert verifier.verify("12", "12").is_correct is True
        assert verifier._pool._workers[0]._process is None


def test_golds_of_math500_are_readable_and_equal_their_solutions(
    verifier: MathVerifier, shared_dir: Path
) -> None:
    file = shared_dir / "data/math500/math500_test.jsonl"
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()][::10]
    for row in rows:
        gold = row["answer"]
        assert verifier.is_readable(gold), gold
        assert verifier.verify(gold, extract_answer(row["solution"])).is_correct, gold


def test_threads_share_the_verifier(verifier: MathVerifier) -> None:
    with ThreadPoolExecutor(4) as threads:
        futures = [threads.submit(verifier.verify, "2x", f"x+x+{i}-{i}") for i in range(8)]
    assert all(future.result().is_correct for future in futures)
