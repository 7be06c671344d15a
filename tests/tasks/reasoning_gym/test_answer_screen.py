from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1.tasks.reasoning_gym.answer_screen import is_plain_data, is_plain_expression

ATTACKS = [
    "__import__('os').system('true')",
    "open('/etc/passwd').read()",
    "(lambda: 1)()",
    "[x for x in ().__class__.__base__.__subclasses__()]",
    "9**9**9",
    "exec('1')",
    "print(1)",
    "[0] * 10**9",
    "x if y else z",
    "a[b]",
    "f'{open}'",
    "a.b",
    "{1: 2}[1]",
    "(yield)",
    "(a := 1)",
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_code_passes_neither_screen(attack: str) -> None:
    assert not is_plain_data(attack)
    assert not is_plain_expression(attack)


@pytest.mark.parametrize(
    "answer",
    [
        "5!!!!",  # sympy reads it as calls of factorial
        "(9**99)**99**9",
        "9**1001",
        "9**(99*99*99)",
        "((9**99)**99)**99",
        "exp(exp(exp(99.0)))",
        "factorial(10)",
        "Integral(x, x) + C",
        "sin(x, evaluate=False)",
        "'a'*9",
        "0.1[2]",
        "2x",
        "",
        "1+" * 400 + "1",
        "(" * 400,
        "1\x00",
    ],
)
def test_expressions_that_must_not_be_computed(answer: str) -> None:
    assert not is_plain_expression(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "(72 + 3) * 2 - 8/4",
        "3*x**2/2 - sin(2*x)*cos(x)/4 + C",
        "8*x**4 + 20*x**3 - 2",
        "exp(2*x)/2 + C",
        " -7 ",
        "x^2 + 1",
        "log(x)**2",
    ],
)
def test_plain_expressions_pass(answer: str) -> None:
    assert is_plain_expression(answer)


@pytest.mark.parametrize(
    "answer",
    ["1 2 3 4", "[1, 2, 3]", "[['_', 'Q'], ['Q', '_']]", "ABCDE", "_ Q _\n_ _ Q", "[-1, 2.5]", ""],
)
def test_plain_data_passes(answer: str) -> None:
    assert is_plain_data(answer)


@given(st.text(max_size=60))
def test_what_passes_as_data_calls_nothing(text: str) -> None:
    if is_plain_data(text):
        # What is not Python fails at once, and names have nothing to name.
        with contextlib.suppress(SyntaxError, NameError, TypeError, ValueError):
            eval(text.strip(), {"__builtins__": {}})
