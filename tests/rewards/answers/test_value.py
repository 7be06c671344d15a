"""Values of expressions, the policy on decimals, and what counts as unevaluated."""

from __future__ import annotations

from fractions import Fraction

import pytest

from r1.rewards.answers.expression import read_expression
from r1.rewards.answers.nodes import Node
from r1.rewards.answers.text import tidy
from r1.rewards.answers.value import is_unevaluated, same_number, same_value, value_of


def node_of(text: str) -> Node:
    node = read_expression(tidy(text))
    assert node is not None, text
    return node


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r"\frac12", Fraction(1, 2)),
        (r"-2\frac{3}{4}", Fraction(-11, 4)),
        ("1 1/2", Fraction(3, 2)),
        (r"0.1\overline{6}", Fraction(1, 6)),
        ("0.(3)", Fraction(1, 3)),
        ("0.333...", Fraction(1, 3)),
        ("1.2e3", Fraction(1200)),
        (r"1.5 \times 10^{-2}", Fraction(3, 200)),
        (r"\binom{5}{2}", Fraction(10)),
        (r"\sqrt{\frac{9}{4}}", Fraction(3, 2)),
        (r"\sqrt[3]{-8}", Fraction(-2)),
        (r"\lfloor 7/2 \rfloor + |{-3}|", Fraction(6)),
        ("2^{10}", Fraction(1024)),
        ("-2^2", Fraction(-4)),
        ("3!", Fraction(6)),
        (r"\gcd(12, 18)", Fraction(6)),
    ],
)
def test_exact_values(text: str, value: Fraction) -> None:
    assert value_of(node_of(text)) == value


@pytest.mark.parametrize(
    "text",
    ["2 3", "1 -", r"\frac{1}", "(1", "x = 1", "1,2", r"\foo{3}", "101_2", "1..2", "$", "2 +* 3"],
)
def test_what_is_not_read_whole_is_not_read(text: str) -> None:
    assert read_expression(text) is None


@pytest.mark.parametrize(
    ("gold", "answer", "is_equal"),
    [
        (r"\frac{1}{3}", "0.33", False),
        (r"\frac{1}{3}", "0.33333", True),
        (r"\frac{2}{3}", "0.66666", True),
        (r"\frac{2}{3}", "0.66667", True),
        (r"\frac{2}{3}", "0.66668", False),
        (r"\pi", "3.14", False),
        (r"\pi", "3.1416", True),
        (r"\frac{1}{8}", "0.1250001", False),
        ("5", "4.999999999999", True),
        ("5", "5.001", False),
        ("33.3", r"\frac{100}{3}", True),
        ("33.33", "33.333", True),
        ("12.5", "12.48", False),
        ("0.5", "0.48", False),
        ("3.14", "3.15", False),
        (r"6.02 \times 10^{23}", r"6.03 \times 10^{23}", False),
    ],
)
def test_decimals(gold: str, answer: str, is_equal: bool) -> None:
    assert same_number(node_of(gold), node_of(answer)) is is_equal


def test_a_rounded_gold_when_rounding_is_asked() -> None:
    assert same_number(node_of("3.3"), node_of("3.312"), may_round=True) is True
    assert same_number(node_of("3.3"), node_of("3.36"), may_round=True) is False


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3+4-2", True), (r"6 \times 7", True), (r"\sqrt{9+16}", True), (r"\frac{3+4}{2}", True),
        ("5!", False), ("2^{10}", False), (r"\frac{6}{4}", False), (r"\sqrt{8}", False),
        (r"2^3 \cdot 5", False), (r"\binom{5}{2}", False), (r"2+\sqrt{3}", False),
        (r"1.2\times 10^3", False), ("-7", False),
    ],
)  # fmt: skip
def test_unevaluated_arithmetic(text: str, expected: bool) -> None:
    assert is_unevaluated(node_of(text)) is expected


@pytest.mark.parametrize(
    ("one", "other", "is_equal"),
    [
        ("(a+b)^2", "a^2+2ab+b^2", True),
        ("|x|", "x", False),
        (r"\sqrt{1/n}", r"\frac{1}{\sqrt{n}}", True),
        (r"\sin 2x", r"2\sin x\cos x", True),
        (r"\sin^{-1} x", r"\arcsin x", True),
        ("f(x+1)", "f(1+x)", True),
        ("f(x)", "g(x)", False),
        (r"e^{i\pi}", "-1", True),
        ("x_1", "x_{1}", True),
        (r"\frac{\sqrt{2}}{2^{99}}", r"\frac{\sqrt{2}}{2^{98}}", False),
        ("9^{9^{9^{9}}}", "5", None),
    ],
)
def test_values_at_points(one: str, other: str, is_equal: bool | None) -> None:
    assert same_value(node_of(one), node_of(other)) is is_equal
