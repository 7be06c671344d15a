"""The value of an expression: exact where it is rational, else to 60 digits.

Every operation is bounded, so that nothing here hangs: what is too large is `TooLarge`.
"""

from __future__ import annotations

import contextlib
import math
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from functools import lru_cache
from typing import Any

from mpmath.ctx_mp import MPContext

from r1.rewards.answers.nodes import Name, Node, Number

_DIGITS = 60
_EXACT_BITS = 100_000
_MAX_EXPONENT = 100_000
_MAX_FACTORIAL = 3_000
# Enough for 2^(1/2^1000), which is not 1.
_MANY_DIGITS = 1_000
_INTEGER_LETTERS = "ijklmnpqKMN"

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


@contextlib.contextmanager
def many_digits() -> Iterator[None]:
    """Values to 1,000 digits meanwhile."""
    _local.context.dps = _MANY_DIGITS
    try:
        yield
    finally:
        _local.context.dps = _DIGITS


@lru_cache(maxsize=4096)
def coordinate(name: str, index: int, *, is_step: bool = False) -> Fraction:
    r"""A generic value for a variable: the same in every process, positive at the first two.

    Step functions are constant between their steps, so that they take points far apart, and
    whole ones for what is written like an integer: there \lceil n/2 \rceil is
    \lfloor (n+1)/2 \rfloor.
    """
    seed = zlib.crc32(f"{name}:{index}".encode())
    if is_step:
        is_integer = name[0] in _INTEGER_LETTERS
        return Fraction(seed % 41 + 1) if is_integer else Fraction(seed % 99991, 5003) - 10
    value = Fraction(seed % 9973 + 3001, 5003)
    return value if index < 2 else -value


def evaluate(node: Node, point: Mapping[str, Fraction]) -> Value:
    if isinstance(node, Number):
        return node.value
    if isinstance(node, Name):
        return _constant(node.name) if node.name not in point else point[node.name]
    arguments = [evaluate(argument, point) for argument in node.arguments]
    operation = _OPERATIONS.get(node.function)
    if operation is not None:
        return _checked(operation, arguments)
    if node.function.startswith("apply "):
        return _unknown_function(node.function, arguments)
    function = _FUNCTIONS.get(node.function)
    if function is None:
        raise Undecided(node.function)
    return _checked(lambda *values: function(_local.context, *map(as_mp, values)), arguments)


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


def as_mp(value: Value) -> Value:
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
        is_exact = isinstance(one, Fraction) and isinstance(other, Fraction)
        if is_exact and max(_num_bits(one), _num_bits(other)) <= _EXACT_BITS:
            return exact(one, other)
        return exact(as_mp(one), as_mp(other))

    return operation


_add = _both(lambda one, other: one + other)
subtract = _both(lambda one, other: one - other)
_multiply = _both(lambda one, other: one * other)
divide = _both(lambda one, other: one / other)


def _num_bits(value: Fraction) -> int:
    return max(value.numerator.bit_length(), value.denominator.bit_length())


def _power(base: Value, exponent: Value) -> Value:
    if isinstance(exponent, Fraction) and exponent.denominator == 1:
        times = int(exponent)
        if isinstance(base, Fraction):
            if base == 0 and times <= 0:
                raise Undecided("0^0")
            size = max(abs(base.numerator), base.denominator).bit_length()
            if size * abs(times) <= _EXACT_BITS or abs(base) == 1:
                return base**times if abs(base) != 1 else base ** (times % 2)
        magnitude = _local.context.mag(as_mp(base)) if base else 0
        if abs(times) * (abs(magnitude) + 1) > _MAX_EXPONENT:
            raise TooLarge
        return as_mp(base) ** times
    root = _exact_root(base, exponent)
    if root is not None:
        return root
    base, exponent = as_mp(base), as_mp(exponent)
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
        return _local.context.gamma(as_mp(value) + 1)
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
    is_whole = all(isinstance(part, Fraction) and part.denominator == 1 for part in (above, below))
    if is_whole and 0 <= below <= above <= 100_000:
        if min(below, above - below) > 2_000:
            raise TooLarge
        return Fraction(math.comb(int(above), int(below)))
    return _local.context.binomial(as_mp(above), as_mp(below))


def _real_root(value: Value, degree: Value) -> Value:
    r"""`\sqrt[3]{-8}` is -2: odd roots are real."""
    is_odd = isinstance(degree, Fraction) and degree.denominator == 1 and degree % 2 == 1
    if is_odd and is_real(value) and as_real(value) < 0:
        return -_power(-as_real(value), 1 / degree)
    if not degree:
        raise Undecided("root")
    return _power(value, divide(Fraction(1), degree))


def _floor(value: Value) -> Value:
    if not is_real(value):
        raise Undecided("floor")
    if isinstance(value, Fraction):
        return Fraction(math.floor(value))
    return Fraction(int(_local.context.floor(as_real(value))))


def _unknown_function(name: str, values: list[Value]) -> Value:
    """A fixed generic function for `f(x)`: only equal arguments give equal values."""
    total: Value = Fraction(zlib.crc32(name.encode()) % 997 + 1, 31)
    for index, value in enumerate(values):
        weight = Fraction(zlib.crc32(f"{name}{index}".encode()) % 991 + 2, 37)
        total = _add(total, _multiply(weight, _add(_multiply(value, value), value)))
    return total


def is_real(value: Value) -> bool:
    if isinstance(value, Fraction):
        return True
    imaginary = getattr(value, "imag", 0)
    return bool(abs(imaginary) <= abs(value) * _local.context.mpf("1e-45"))


def as_real(value: Value) -> Value:
    return value if isinstance(value, Fraction) else value.real


def is_zero(value: Value) -> bool:
    return value == 0 if isinstance(value, Fraction) else bool(abs(value) < 1e-45)


def is_close(one: Value, other: Value) -> bool:
    if isinstance(one, Fraction) and isinstance(other, Fraction):
        return one == other
    if one == 0 or other == 0:
        return is_zero(one) and is_zero(other)
    one, other = as_mp(one), as_mp(other)
    # What cancels may cost some digits.
    tolerance = _local.context.mpf(10) ** (-_local.context.dps // 2)
    return bool(abs(one - other) <= max(abs(one), abs(other)) * tolerance)


_OPERATIONS: dict[str, Callable[..., Value]] = {
    "+": _add,
    "-": subtract,
    "*": _multiply,
    "/": divide,
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
    "max": lambda *values: max(map(as_real, values)),
    "min": lambda *values: min(map(as_real, values)),
}
_ELEMENTARY = """
sin cos tan cot sec csc sinh cosh tanh coth exp ln
"""
_FUNCTIONS: dict[str, Callable[..., Value]] = {
    name: lambda context, value, function=name: getattr(context, function)(value)
    for name in _ELEMENTARY.split()
} | {
    f"arc{name}": lambda context, value, function=f"a{name}": getattr(context, function)(value)
    for name in ["sin", "cos", "tan", "cot", "sec", "csc"]
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
