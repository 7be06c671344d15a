r"""Numbers as they are written: decimals, repeating ones, `2\frac{5}{8}`, `1.2e3`."""

from __future__ import annotations

import re
from fractions import Fraction

from r1.rewards.answers.nodes import Call, Node, Number

_NUMBER = re.compile(r"\d+\.\d+|\.\d+|\d+\.(?![\d.])|\d+")
_EXPONENT = re.compile(r"[eE]([-+]?\d{1,3})(?![\d.])")
_OTHER_BASE = re.compile(r" *_[{\d]")
_REPEATING = re.compile(r" *(?:\\overline\{(\d+)\}|\\dot\{?(\d)\}?(?:(\d*)\\dot\{?(\d)\}?)?)")
_IN_BRACKETS = re.compile(r"\((\d+)\)")
_ELLIPSIS = re.compile(r"\s*(?:\\ldots|\.\.\.|…)")
_MIXED = re.compile(
    r"\s*\\frac\s*(?:\{\s*(\d+)\s*\}\s*\{\s*(\d+)\s*\}|(\d)\s*(\d)(?!\d)|(\d)\s*\{(\d+)\})"
    r"|\s+(\d+)/(\d+)(?![\d.])"
)


class Unreadable(Exception):
    """The text is no expression that these readers know."""


def read_number(text: str, position: int) -> tuple[Number, int]:
    """The literal at a position, and where it ends."""
    match = _NUMBER.match(text, position)
    if match is None:
        raise Unreadable("number")
    end, digits = match.end(), match[0].rstrip(".")
    if "." in match[0]:
        if (repeated := _repeating(text, end, digits)) is not None:
            return repeated
    elif _OTHER_BASE.match(text, end):
        raise Unreadable("a number in another base")
    decimals = len(digits.partition(".")[2]) if "." in digits else None
    if exponent := _EXPONENT.match(text, end):
        value = Fraction(digits) * Fraction(10) ** int(exponent[1])
        return Number(value, decimals or 0, True), exponent.end()
    if decimals is None and (mixed := _mixed(text, end, int(digits))) is not None:
        return mixed
    return Number(Fraction(digits), decimals), end


def _repeating(text: str, position: int, digits: str) -> tuple[Number, int] | None:
    r"""0.1\overline{6}, 0.\dot{3}, 0.(3) and 0.333... as the fractions that they are."""
    fixed = digits.partition(".")[2]
    if match := _REPEATING.match(text, position):
        period = match[1] or (match[2] + (match[3] or "") + (match[4] or ""))
    elif match := _IN_BRACKETS.match(text, position):
        period = match[1]
    elif match := _ELLIPSIS.match(text, position):
        shortest = re.search(r"(\d+?)\1+$", fixed)
        if shortest is None:
            raise Unreadable("an unending decimal")
        period, fixed = shortest[1], fixed[: shortest.start()]
        digits = digits.partition(".")[0] + "." + fixed
    else:
        return None
    scale = Fraction(1, 10 ** len(fixed) * (10 ** len(period) - 1))
    return Number(Fraction(digits.rstrip(".") or "0") + int(period) * scale), match.end()


def _mixed(text: str, position: int, whole: int) -> tuple[Number, int] | None:
    r"""`2\frac{5}{8}` and `2 5/8` are sums."""
    match = _MIXED.match(text, position)
    if match is None:
        return None
    above, below = (int(group) for group in match.groups() if group is not None)
    if below == 0 or above >= below:
        if match[0].lstrip().startswith("\\"):
            return None
        raise Unreadable("mixed number")
    return Number(whole + Fraction(above, below)), match.end()


def in_scientific_notation(node: Node) -> Node:
    r"""`1.2 \times 10^{3}` as the one literal that it is."""
    if not isinstance(node, Call) or node.function != "*":
        return node
    mantissa, power = node.arguments
    sign = 1
    if isinstance(mantissa, Call) and mantissa.function == "neg":
        sign, mantissa = -1, mantissa.arguments[0]
    if not (isinstance(mantissa, Number) and isinstance(power, Call) and power.function == "^"):
        return node
    base, exponent = power.arguments
    minus = isinstance(exponent, Call) and exponent.function == "neg"
    if minus:
        exponent = exponent.arguments[0]  # type: ignore[union-attr]
    if not (base == Number(Fraction(10)) and isinstance(exponent, Number)):
        return node
    if exponent.value.denominator != 1 or exponent.value > 999:
        return node
    scale = Fraction(10) ** int(-exponent.value if minus else exponent.value)
    return Number(sign * mantissa.value * scale, mantissa.decimals or 0, True)
