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
import threading
import zlib
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import lru_cache
from typing import Any

from mpmath.ctx_mp import MPContext

from r1.rewards.answer_expression import Call, Name, Node, Number, names_of

_DIGITS = 60
_EXACT_BITS = 200_000
_MAX_EXPONENT = 1_000_000
_MAX_FACTORIAL = 3_000
_SIGNIFICANT = 5
_POINTS = 4
# Both sides are computed to 60 digits; what cancels may cost some of them.
_RELATIVE_TOLERANCE = "1e-30"

Value = Any  # Fraction, mpf or mpc


class Undecided(Exception):
    """The value cannot be computed here."""


class TooLarge(Undecided):
    """The value is beyond all bounds."""


class _Local(threading.local):
    """One context a thread: mpmath changes its precision while it works."""

    def __init__(self) -> None:
        self.context = MPContext()
        self.context.dps = _DIGITS


_local = _Local()


def value_of(node: Node) -> Value | None:
    """The value of an expression without variables, or None."""
    if names_of(node):
        return None
    try:
        return _evaluate(node, {})
    except Undecided:
        return None


def as_float(node: Node) -> float | None:
    """The real value of an expression without variables, infinities included, or None."""
    if node == Name("infty"):
        return math.inf
    if node == Call("neg", (Name("infty"),)):
        return -math.inf
    value = value_of(node)
    if value is None or not _is_real(value):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def same_value(one: Node, other: Node) -> bool | None:
    """Whether two expressions are equal wherever both are real; None when it cannot be told."""
    if _without_infinity(one) or _without_infinity(other):
        return one == other
    names = sorted(names_of(one) | names_of(other))
    if names_of(one) != names_of(other) and min(len(names_of(one)), len(names_of(other))) > 0:
        names = sorted(names)
    num_compared = 0
    for index in range(_POINTS if names else 1):
        point = {name: _coordinate(name, index) for name in names}
        try:
            values = _evaluate(one, point), _evaluate(other, point)
        except TooLarge:
            return None
        except Undecided:
            continue
        # Beyond the positive points, branches of roots and logarithms are matters of taste.
        if index >= 2 and not (_is_real(values[0]) and _is_real(values[1])):
            continue
        num_compared += 1
        if not _is_close(*values):
            return False
    return True if num_compared else None


def is_multiple(one: Node, other: Node) -> bool | None:
    """Whether two expressions in variables differ by a constant factor that is not 0."""
    names = sorted(names_of(one) | names_of(other))
    ratios = []
    for index in range(_POINTS):
        point = {name: _coordinate(name, index) for name in names}
        try:
            above, below = _evaluate(one, point), _evaluate(other, point)
        except Undecided:
            continue
        if _is_zero(below) or _is_zero(above):
            return None
        ratios.append(_divide(above, below))
    if len(ratios) < 2:
        return None
    return all(_is_close(ratio, ratios[0]) for ratio in ratios)


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


def same_number(gold: Node, answer: Node, *, may_round: bool = False) -> bool | None:
    """Whether an answer without variables is the gold's number, by the rules above."""
    gold_value, value = value_of(gold), value_of(answer)
    if gold_value is None or value is None:
        return same_value(gold, answer)
    if _is_close(gold_value, value):
        return True
    if not (_is_real(gold_value) and _is_real(value)):
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
    gap = _mp(abs(_subtract(_as_real(value), number.value)))
    return bool(gap <= _mp(unit / 2)) or (may_cut and bool(gap < _mp(unit)))


def _has_no_finite_expansion(value: Value) -> bool:
    if not isinstance(value, Fraction):
        return True
    below = value.denominator
    for prime in (2, 5):
        while below % prime == 0:
            below //= prime
    return below != 1


def _relative_gap(one: Value, other: Value) -> float:
    return float(abs(_subtract(_as_real(one), _as_real(other))) / max(abs(_mp(one)), 1))


# -------------------------------------------------------------------- evaluation


@lru_cache(maxsize=1024)
def _coordinate(name: str, index: int) -> Fraction:
    """A generic value for a variable: the same in every process, positive at the first two."""
    seed = zlib.crc32(f"{name}:{index}".encode())
    value = Fraction(seed % 9973 + 3001, 5003)
    return value if index < 2 else -value


def _evaluate(node: Node, point: Mapping[str, Fraction]) -> Value:
    if isinstance(node, Number):
        return node.value
    if isinstance(node, Name):
        return _constant(node.name) if node.name not in point else point[node.name]
    arguments = [_evaluate(argument, point) for argument in node.arguments]
    operation = _OPERATIONS.get(node.function)
    if operation is not None:
        return _checked(operation, arguments)
    if node.function.startswith("apply "):
        return _unknown_function(node.function, arguments)
    function = _FUNCTIONS.get(node.function)
    if function is None:
        raise Undecided(node.function)
    return _checked(lambda *values: function(_local.context, *map(_mp, values)), arguments)


def _checked(operation: Callable[..., Value], arguments: list[Value]) -> Value:
    try:
        value = operation(*arguments)
    except (ZeroDivisionError, ValueError, TypeError, OverflowError) as error:
        raise Undecided(str(error)) from None
    if not isinstance(value, Fraction):
        context = _local.context
        if not context.isfinite(value):
            raise Undecided("not finite")
        if abs(context.mag(value) if value else 0) > 4 * _MAX_EXPONENT:
            raise TooLarge
    return value


def _mp(value: Value) -> Value:
    if isinstance(value, Fraction):
        return _local.context.mpf(value.numerator) / value.denominator
    return value


def _constant(name: str) -> Value:
    context = _local.context
    match name:
        case "pi":
            return +context.pi
        case "e":
            return +context.e
        case "i":
            return context.mpc(0, 1)
    raise Undecided(name)


def _both(exact: Callable[[Any, Any], Any]) -> Callable[[Value, Value], Value]:
    def operation(one: Value, other: Value) -> Value:
        if isinstance(one, Fraction) and isinstance(other, Fraction):
            return exact(one, other)
        return exact(_mp(one), _mp(other))

    return operation


_add = _both(lambda one, other: one + other)
_subtract = _both(lambda one, other: one - other)
_multiply = _both(lambda one, other: one * other)
_divide = _both(lambda one, other: one / other)


def _power(base: Value, exponent: Value) -> Value:
    if isinstance(exponent, Fraction) and exponent.denominator == 1:
        times = int(exponent)
        if isinstance(base, Fraction):
            if base == 0 and times <= 0:
                raise Undecided("0^0")
            size = max(abs(base.numerator), base.denominator).bit_length()
            if size * abs(times) <= _EXACT_BITS or abs(base) == 1:
                return base**times if abs(base) != 1 else base ** (times % 2)
        magnitude = _local.context.mag(_mp(base)) if base else 0
        if abs(times) * (abs(magnitude) + 1) > _MAX_EXPONENT:
            raise TooLarge
        return _mp(base) ** times
    root = _exact_root(base, exponent)
    if root is not None:
        return root
    base, exponent = _mp(base), _mp(exponent)
    context = _local.context
    if base == 0:
        raise Undecided("power of 0")
    if abs(exponent) * (abs(context.mag(base)) + 1) > _MAX_EXPONENT:
        raise TooLarge
    return base**exponent


def _exact_root(base: Value, exponent: Value) -> Fraction | None:
    """16^(3/4) and sqrt(9/4) as the rational numbers that they are."""
    if not (isinstance(base, Fraction) and isinstance(exponent, Fraction)) or base < 0:
        return None
    if exponent.denominator > 12 or abs(exponent.numerator) > 100 or base.numerator >> 2000:
        return None
    parts = []
    for part in (base.numerator, base.denominator):
        near = round(part ** (1 / exponent.denominator)) if part < 1 << 900 else 0
        if near**exponent.denominator != part:
            return None
        parts.append(near)
    if parts[0] == 0 and exponent <= 0:
        raise Undecided("power of 0")
    return Fraction(*parts) ** exponent.numerator


def _factorial(value: Value) -> Value:
    if not isinstance(value, Fraction):
        return _local.context.gamma(value + 1)
    if value.denominator != 1:
        return _local.context.gamma(_mp(value) + 1)
    if value < 0:
        raise Undecided("factorial of a negative number")
    if value > _MAX_FACTORIAL:
        raise TooLarge
    return Fraction(math.factorial(int(value)))


def _whole(value: Value) -> int:
    if not isinstance(value, Fraction) or value.denominator != 1 or abs(value) > 10**30:
        raise Undecided("not an integer")
    return int(value)


def _binomial(above: Value, below: Value) -> Value:
    if isinstance(above, Fraction) and isinstance(below, Fraction):
        if above.denominator == 1 and below.denominator == 1 and 0 <= below <= above <= 100_000:
            if min(below, above - below) > 2_000:
                raise TooLarge
            return Fraction(math.comb(int(above), int(below)))
    return _local.context.binomial(_mp(above), _mp(below))


def _real_root(value: Value, degree: Value) -> Value:
    r"""`\sqrt[3]{-8}` is -2: odd roots are real."""
    if isinstance(degree, Fraction) and degree.denominator == 1 and degree % 2 == 1:
        if _is_real(value) and _as_real(value) < 0:
            return -_power(-_as_real(value), 1 / degree)
    if not degree:
        raise Undecided("root")
    return _power(value, _divide(Fraction(1), degree))


def _floor(value: Value) -> Value:
    if not _is_real(value):
        raise Undecided("floor")
    if isinstance(value, Fraction):
        return Fraction(math.floor(value))
    return Fraction(int(_local.context.floor(_as_real(value))))


def _unknown_function(name: str, values: list[Value]) -> Value:
    """A fixed generic function for `f(x)`: only equal arguments give equal values."""
    total: Value = Fraction(zlib.crc32(name.encode()) % 997 + 1, 31)
    for index, value in enumerate(values):
        weight = Fraction(zlib.crc32(f"{name}{index}".encode()) % 991 + 2, 37)
        total = _add(total, _multiply(weight, _add(_multiply(value, value), value)))
    return total


def _is_real(value: Value) -> bool:
    if isinstance(value, Fraction):
        return True
    imaginary = getattr(value, "imag", 0)
    return bool(abs(imaginary) <= abs(value) * _local.context.mpf("1e-45"))


def _as_real(value: Value) -> Value:
    return value if isinstance(value, Fraction) else value.real


def _is_zero(value: Value) -> bool:
    return value == 0 if isinstance(value, Fraction) else bool(abs(value) < 1e-45)


def _is_close(one: Value, other: Value) -> bool:
    if isinstance(one, Fraction) and isinstance(other, Fraction):
        return one == other
    if one == 0 or other == 0:
        return _is_zero(one) and _is_zero(other)
    one, other = _mp(one), _mp(other)
    tolerance = _local.context.mpf(_RELATIVE_TOLERANCE)
    return bool(abs(one - other) <= max(abs(one), abs(other)) * tolerance)


def _without_infinity(node: Node) -> bool:
    """Whether the expression is an infinity (with or without a sign)."""
    if isinstance(node, Call) and node.function == "neg":
        node = node.arguments[0]
    return node == Name("infty")


_OPERATIONS: dict[str, Callable[..., Value]] = {
    "+": _add,
    "-": _subtract,
    "*": _multiply,
    "/": _divide,
    "^": _power,
    "neg": lambda value: -value,
    "!": _factorial,
    "sqrt": lambda value: _power(value, Fraction(1, 2)),
    "root": _real_root,
    "abs": abs,
    "binom": _binomial,
    "floor": _floor,
    "ceil": lambda value: -_floor(-value),
    "gcd": lambda *values: Fraction(math.gcd(*map(_whole, values))),
    "lcm": lambda *values: Fraction(math.lcm(*map(_whole, values))),
    "max": lambda *values: max(map(_as_real, values)),
    "min": lambda *values: min(map(_as_real, values)),
}
_FUNCTIONS: dict[str, Callable[..., Value]] = {
    name: lambda context, value, function=name: getattr(context, function)(value)
    for name in "sin cos tan cot sec csc sinh cosh tanh coth exp ln".split()
} | {
    f"arc{name}": lambda context, value, function=f"a{name}": getattr(context, function)(value)
    for name in "sin cos tan cot sec csc".split()
}
_FUNCTIONS |= {
    # Without a base it is the natural one, as in higher mathematics and in sympy.
    "log": lambda context, value, base=None: (
        context.ln(value) if base is None else context.ln(value) / context.ln(base)
    ),
    "Re": lambda context, value: context.re(value),
    "Im": lambda context, value: context.im(value),
    "arg": lambda context, value: context.arg(value),
}
