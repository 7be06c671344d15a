"""What the question settles, and how kinds of answers compare; the tables have the rest."""

from __future__ import annotations

import pytest

from r1.rewards.answers.check import check_answer
from r1.rewards.answers.question import read_question


@pytest.mark.parametrize(
    ("gold", "answer", "question", "is_equal"),
    [
        ("5", "3 + 4 - 2", "Compute 3 + 4 - 2.", False),
        ("x^2-1", "(x-1)(x+1)", "Expand $(x-1)(x+1)$.", False),
        ("(x-1)(x+1)", "x^2-1", "Factor $x^2-1$.", False),
        ("5", "5 m", "How many meters is it?", True),
        ("5", "5 m", "How many centimeters is it?", False),
        ("50", "50 cm", "Of 2 meters a quarter is cut off. How many cm?", True),
        ("3.3", r"\frac{10}{3}", "Round to the nearest tenth.", True),
        ("3.3", r"\frac{10}{3}", None, False),
        ("33.3", r"\frac{100}{3}", None, True),
        ("50", r"50\%", "What percent is it?", True),
        ("50", r"50\%", "How many apples are there?", False),
        (r"3\%", "3", "Write the rate as a decimal number.", False),
        ("101_2", "101", "What is it in base 2?", True),
        ("101_2", "101", None, False),
        ("1, 2", "2, 1", "List them in increasing order.", False),
        ("1, 2", "2, 1", None, True),
        ("3 or -3", "3", "Find a possible value of $x$.", True),
        ("3 or -3", "3", "Find all values of $x$.", False),
        (r"\frac{1}{2} or 0.5", "0.5", None, True),
        ("B", "12", "Which is it? (A) 10 (B) 12 (C) 14", True),
        ("B", "14", "Which is it? (A) 10 (B) 12 (C) 14", False),
        ("5", "y = 5", "Find the value of $x$.", False),
        ("5", "x = 5", "Find the value of $x$.", True),
        (r"\frac{1}{2}", r"\frac{2}{4}", "Give it in lowest terms.", False),
        ("3:30", "1:10", None, False),
        ("5:12", "10:24", "What is the ratio?", True),
        (r"45^\circ", r"\frac{\pi}{4}", None, True),
        (r"45^\circ", r"\frac{\pi}{4}", "Give the angle in degrees.", False),
    ],
)
def test_what_the_question_settles(
    gold: str, answer: str, question: str | None, is_equal: bool
) -> None:
    assert check_answer(gold, answer, read_question(question)).is_equal is is_equal


def test_tuples_are_free_of_order_when_asked() -> None:
    for free, is_equal in ((False, False), (True, True)):
        asked = read_question(None, order_free=free)
        assert check_answer("(1, 2, 3)", "(3, 2, 1)", asked).is_equal is is_equal


@pytest.mark.parametrize(
    ("gold", "answer", "reason"),
    [
        ("5", "3 + 4 - 2", "arithmetic that is not carried out"),
        ("5 cm", "5 m", "different values"),
        ("5 cm", "5 kg", "another unit"),
        (r"\{1,2\}", "(1,2)", "a tuple where the gold is a set"),
        ("x > 3", "x < 3", "different set of numbers"),
        ("2", "2, 3", "2 values where the gold has 1"),
        ("x = 5", "y = 5", "the value of another variable"),
        ("x = 5", "2x = 10", "an equation that is not solved"),
        (r"\text{odd}", r"\text{even}", "different words"),
        ("(1, 2)", "(1, 3)", "part 2: different values"),
        (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix} 1 \\ 3 \end{pmatrix}",
         "entry 2 differs"),
        ("1, 2", "1, 3", "a value of the gold is missing"),
    ],
)  # fmt: skip
def test_the_reason_says_what_differs(gold: str, answer: str, reason: str) -> None:
    finding = check_answer(gold, answer, read_question(None))
    assert (finding.is_equal, finding.reason) == (False, reason)


@pytest.mark.parametrize(
    "answer",
    ["-" * 900 + "1", "(" * 400 + "1" + ")" * 400, "2^{" * 200 + "2" + "}" * 200, "x+" * 400 + "x",
     "a" * 900, "1," * 400 + "1", r"\frac{" * 150, "5!" + "!" * 300, r"\sqrt{" * 99 + "}" * 99,
     "9^{9^{9}}!", r"\sin(10^{99999})", r"\pm" * 60 + "1", "{" * 500, "x=" * 300 + "1"],
)  # fmt: skip
def test_hostile_answers_are_never_equal_and_never_crash(answer: str) -> None:
    assert check_answer("5", answer, read_question(None)).is_equal is not True
    assert check_answer(r"\sqrt{5}", answer, read_question(None)).is_equal is not True


@pytest.mark.parametrize(
    ("gold", "answer", "question", "is_equal"),
    [
        ("0.112", "112 g", "How much oxygen (in kg) is required?", True),
        ("0.112", "0.112 g", "How much oxygen (in kg) is required?", False),
        ("7.02e5", "702 kJ/mol", r"Answer in $\mathrm{J} / \text{mole}$.", True),
        ("7.02e5", r"7.02 \times 10^5 kJ/mol", r"Answer in $\mathrm{J} / \text{mole}$.", False),
        ("3", "180 minutes", "How many hours did it take?", True),
        ("3", "3 minutes", "How many hours did it take?", False),
        (r"\frac{\pi}{3}", r"60^\circ", None, True),
        (r"\frac{\pi}{3}", r"\frac{\pi}{3}^\circ", None, False),
        (r"\lfloor\frac{2n-1}{5}\rfloor", r"\lfloor\frac{2n+1}{5}\rfloor", None, False),
        (r"\lfloor\frac{n+1}{2}\rfloor", r"\lceil\frac{n}{2}\rceil", None, True),
        (r"\lfloor x \rfloor", "x", None, False),
        ("|x-y|", "x-y", None, False),
        (r"(-1)^n", r"\cos(n\pi)", None, True),
        (r"2^{1/2^{1000}}", "1", None, False),
        ("x = 4, y = 3", "x = 4, x = 3", None, False),
        ("A", "(A) or (B)", None, False),
        ("ACD", "D, A and C", None, True),
        (r"548\pi", "1721.6", r"Leave your answer in terms of $\pi$.", False),
        (r"\text{Alice}", "Alice won the game.", "Who won the game?", True),
        (r"\text{Alice}", "Bob won the game.", "Who won the game?", False),
        ("x + ce^{-2x}", "y = x + Ke^{-2x}", "where $c$ is an arbitrary constant", True),
        ("x + ce^{-2x}", "y = x + e^{-2x}", "where $c$ is an arbitrary constant", False),
        ("f(n) = n", "f(x) = x", None, True),
        (r"m\frac{dv}{dt} + bv = f", r"m\dot{v} = f - bv", None, True),
        ("506_7", "506 7", None, False),
    ],
)
def test_units_asked_for_step_functions_and_other_names(
    gold: str, answer: str, question: str | None, is_equal: bool
) -> None:
    assert check_answer(gold, answer, read_question(question)).is_equal is is_equal
