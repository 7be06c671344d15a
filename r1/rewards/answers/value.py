"""What expressions are worth: exactly where they are rational, else to 60 digits at sample points.

Two formulas are equal when they agree at several generic points. That decides algebra,
radicals, logarithms, trigonometry and complex numbers in less than a millisecond, and in
process: every operation here is bounded, so that nothing hangs.

How decimals compare (`same_number`):

- A decimal that is written where the gold is exact must be the gold's value; where the gold
  has no finite decimal expansion, it must be the gold rounded or cut at its own last digit,
  with at least five significant digits: 0.33333 is 1/3, 0.33 is not.
- A gold with three or more significant digits is taken as rounded when the answer is a value
  that it can be the rounding of: 100/3 for 33.3, and 33.333 for 33.33, but never 12.48 for
  12.5 or 0.48 for 0.5, where the gold may well be exact. When the question asks for rounding,
  any answer that rounds to the gold is right.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache

from r1.rewards.answers.evaluation import (
    TooLarge,
    Undecided,
    Value,
    as_mp,
    as_real,
    coordinate,
    divide,
    evaluate,
    is_close,
    is_real,
    is_zero,
    many_digits,
    subtract,
)  # fmt: skip
from r1.rewards.answers.nodes import Call, Name, Node, Number, names_of, walk

_SIGNIFICANT = 5
_POINTS = 4
# Functions that are pieced together agree on whole pieces, so that they need more points.
_STEP_POINTS = 24
_PIECEWISE = frozenset(("floor", "ceil", "gcd", "lcm", "max", "min", "abs"))


@lru_cache(maxsize=4096)
def value_of(node: Node) -> Value | None:
    """The value of an expression without variables, or None."""
    if names_of(node):
        return None
    try:
        return evaluate(node, {})
    except Undecided:
        return None


def as_float(node: Node) -> float | None:
    """The real value of an expression without variables, infinities included, or None."""
    if node == Name("infty"):
        return math.inf
    if node == Call("neg", (Name("infty"),)):
        return -math.inf
    value = value_of(node)
    if value is None or not is_real(value):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def same_value(one: Node, other: Node) -> bool | None:
    """Whether two expressions are equal wherever both are real; None when it cannot be told.

    A logarithm without a base may be natural or decimal, the same one on both sides.
    """
    same = _agree(one, other)
    if same is False:
        decimal = _with_decimal_logarithms(one), _with_decimal_logarithms(other)
        return _agree(*decimal) if decimal != (one, other) else False
    return same


def _with_decimal_logarithms(node: Node) -> Node:
    if not isinstance(node, Call):
        return node
    arguments = tuple(_with_decimal_logarithms(argument) for argument in node.arguments)
    is_baseless = node.function == "log" and len(arguments) == 1
    return Call(node.function, (*arguments, Number(Fraction(10))) if is_baseless else arguments)


def _agree(one: Node, other: Node) -> bool | None:
    if _is_infinity(one) or _is_infinity(other):
        return one == other
    names = sorted(names_of(one) | names_of(other))
    num_compared = 0
    for index, point in enumerate(_points(names, one, other)):
        try:
            values = evaluate(one, point), evaluate(other, point)
        except TooLarge:
            return None
        except Undecided:
            continue
        # Beyond the positive points, branches of roots and logarithms are matters of taste.
        if index >= 2 and not (is_real(values[0]) and is_real(values[1])):
            continue
        num_compared += 1
        if not is_close(*values):
            return False
    return True if num_compared else None


def _differ_far_behind(one: Node, other: Node) -> bool:
    """Whether numbers with a large exponent in an exponent differ only beyond the usual digits."""
    if not any(_is_tower(node) for node in (one, other)):
        return False
    with many_digits():
        try:
            return not is_close(evaluate(one, {}), evaluate(other, {}))
        except Undecided:
            return False


def _is_tower(node: Node) -> bool:
    exponents = [p.arguments[1] for p in walk(node) if isinstance(p, Call) and p.function == "^"]
    return any(
        isinstance(part, Call) and part.function in ("^", "!")
        for exponent in exponents
        for part in walk(exponent)
    )


def _points(names: list[str], one: Node, other: Node) -> list[dict[str, Fraction]]:
    """Where to compare two expressions in the variables `names`."""
    is_step = bool(names) and (_is_piecewise(one) or _is_piecewise(other))
    num_points = (_STEP_POINTS if is_step else _POINTS) if names else 1
    return [
        {name: coordinate(name, index, is_step=is_step) for name in names}
        for index in range(num_points)
    ]


def _is_piecewise(node: Node) -> bool:
    """Whether it has steps, or signs that alternate: (-1)^n is cos(n pi) for whole n only."""
    return any(
        isinstance(part, Call)
        and (
            part.function in _PIECEWISE
            or (part.function == "^" and _is_negative(part.arguments[0]))
            or (part.function in ("sin", "cos") and Name("pi") in walk(part.arguments[0]))
        )
        for part in walk(node)
    )


def _is_negative(node: Node) -> bool:
    number = literal(node)
    return number is not None and number.value < 0


def is_multiple(one: Node, other: Node) -> bool | None:
    """Whether two expressions in variables differ by a constant factor that is not 0."""
    names = sorted(names_of(one) | names_of(other))
    ratios = []
    for point in _points(names, one, other):
        try:
            above, below = evaluate(one, point), evaluate(other, point)
        except Undecided:
            continue
        if is_zero(below) or is_zero(above):
            return None
        ratios.append(divide(above, below))
    if len(ratios) < 2:
        return None
    return all(is_close(ratio, ratios[0]) for ratio in ratios)


def numerator(node: Node) -> Node:
    """The numerator of an expression over one denominator: where it is 0, the whole is."""
    return _over_one(node)[0]


def _over_one(node: Node) -> tuple[Node, Node]:
    one = Number(Fraction(1))
    if not isinstance(node, Call) or node.function not in ("+", "-", "*", "/", "neg"):
        return node, one
    parts = [_over_one(argument) for argument in node.arguments]
    if node.function == "neg":
        return Call("neg", (parts[0][0],)), parts[0][1]
    (above, below), (other_above, other_below) = parts
    if node.function == "*":
        return Call("*", (above, other_above)), Call("*", (below, other_below))
    if node.function == "/":
        return Call("*", (above, other_below)), Call("*", (below, other_above))
    crossed = Call("*", (above, other_below)), Call("*", (other_above, below))
    return Call(node.function, crossed), Call("*", (below, other_below))


def literal(node: Node) -> Number | None:
    """The (signed) literal that an expression is, or None."""
    if isinstance(node, Call) and node.function == "neg":
        inner = literal(node.arguments[0])
        if inner is not None:
            return Number(-inner.value, inner.decimals, inner.is_scientific)
    return node if isinstance(node, Number) else None


def is_plain_number(node: Node) -> bool:
    r"""Whether it is a number as an answer gives it: a literal, `a/b`, with a sign."""
    if isinstance(node, Call) and node.function == "neg":
        return is_plain_number(node.arguments[0])
    if isinstance(node, Call) and node.function == "/":
        return all(literal(argument) is not None for argument in node.arguments)
    return isinstance(node, Number)


def is_unevaluated(node: Node) -> bool:
    """Whether arithmetic on bare numbers is left to do, such as `3 + 4 - 2` or `6 * 7`.

    A sum, a difference, or a product of two literals, anywhere in it, among values that are
    rational. Fractions, powers, roots, factorials, binomials and products with those
    (`2^3 * 5`) are ways to write a number, and stay answers.
    """
    if not isinstance(node, Call):
        return False
    if node.function in ("+", "-"):
        values = [value_of(argument) for argument in node.arguments]
        if all(isinstance(value, Fraction) for value in values):
            return True
    if node.function == "*" and all(is_plain_number(argument) for argument in node.arguments):
        return True
    return any(is_unevaluated(argument) for argument in node.arguments)


def is_approximate(gold: Node, answer: Node) -> bool:
    """Whether a decimal is written for a value that no decimal is."""
    gold_value, number = value_of(gold), literal(answer)
    is_decimal = number is not None and number.decimals is not None
    return is_decimal and gold_value is not None and _has_no_finite_expansion(gold_value)


def same_number(gold: Node, answer: Node, *, may_round: bool = False) -> bool | None:
    """Whether an answer without variables is the gold's number, by the rules above."""
    gold_value, value = value_of(gold), value_of(answer)
    if gold_value is None or value is None:
        return same_value(gold, answer)
    if is_close(gold_value, value) or same_value(gold, answer):
        return not _differ_far_behind(gold, answer)
    if not (is_real(gold_value) and is_real(value)):
        return False
    gold_literal, answer_literal = literal(gold), literal(answer)
    if answer_literal is not None and answer_literal.decimals is not None:
        if _has_no_finite_expansion(gold_value):
            return _rounds(gold_value, answer_literal, _SIGNIFICANT, may_cut=True)
        # What a program prints for an exact value: 4.999999999999999.
        if _significant(answer_literal) >= 10 and _relative_gap(gold_value, value) < 1e-9:
            return True
    if gold_literal is None or gold_literal.decimals is None:
        return False
    if may_round:
        return _rounds(value, gold_literal, 1, may_cut=False)
    if answer_literal is None:
        return _has_no_finite_expansion(value) and _rounds(value, gold_literal, 3, may_cut=False)
    return (
        gold_literal.decimals >= 2
        and (answer_literal.decimals or 0) > gold_literal.decimals
        and _rounds(value, gold_literal, 3, may_cut=False)
    )


# -------------------------------------------------------------------- decimals


def _significant(number: Number) -> int:
    """The digits of a literal from its first one that is not 0."""
    digits = number.decimals or 0
    scaled = abs(number.value) * 10**digits
    if number.is_scientific:
        return digits + 1
    return len(str(int(scaled))) if scaled else 1


def _rounds(value: Value, number: Number, significant: int, *, may_cut: bool) -> bool:
    """Whether `number` is `value`, rounded (or cut) at the last digit of `number`."""
    if number.decimals is None or _significant(number) < significant:
        return False
    unit = Fraction(1, 10**number.decimals)
    if number.is_scientific and number.value:
        exponent = math.floor(math.log10(abs(float(number.value))))
        unit *= Fraction(10) ** exponent
    gap = as_mp(abs(subtract(as_real(value), number.value)))
    return bool(gap <= as_mp(unit / 2)) or (may_cut and bool(gap < as_mp(unit)))


def _has_no_finite_expansion(value: Value) -> bool:
    if not isinstance(value, Fraction):
        return True
    below = value.denominator
    for prime in (2, 5):
        while below % prime == 0:
            below //= prime
    return below != 1


def _relative_gap(one: Value, other: Value) -> float:
    gap = abs(as_mp(subtract(as_real(one), as_real(other))))
    return float(gap / max(abs(as_mp(one)), 1))


def _is_infinity(node: Node) -> bool:
    """Whether the expression is an infinity (with or without a sign)."""
    if isinstance(node, Call) and node.function == "neg":
        node = node.arguments[0]
    return node == Name("infty")
