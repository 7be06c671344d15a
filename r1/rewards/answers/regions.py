r"""Sets of real numbers: intervals, unions, inequalities, `x \ne 3`, and all reals but some.

Whatever it is written as, a region becomes a list of spans, so that `x > 3`, `3 < x` and
`(3, \infty)` are the same and `x < 3` is not.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from r1.rewards.answers.expression import read_expression
from r1.rewards.answers.nodes import Call, Name, Node, Number, names_of, substituted
from r1.rewards.answers.text import bracketed, split_top
from r1.rewards.answers.value import as_float, same_number, value_of
from r1.rewards.answers.worded_regions import in_signs

INFINITY = Name("infty")
MINUS_INFINITY = Call("neg", (INFINITY,))

_RELATION = r"\\(?:le|ge|ne)(?![A-Za-z])|[<>=]"
_FROM_THE_REALS = re.compile(r"^[A-Za-z]\s*\\in\s*\\mathbb\s*\{?\s*R\s*\}?\s*(?:,|;|and)\s*(?=\S)")
_IN = re.compile(r"^(?:([A-Za-z](?:_\w)?|\\[a-z]+)\s*)?\\in(?![A-Za-z])\s*")
_BUILDER = re.compile(r"^([A-Za-z])\s*(?:\\in\s*\\mathbb\{?\s*R\s*\}?)?\s*[|:]\s*(.*)$")
_REALS = re.compile(
    r"\\mathbb\s*\{?\s*R\s*\}?|R|(?:the\s+set\s+of\s+)?all\s+reals?(?:\s+numbers?)?(?:\s+x)?|\\Re|"
    r"全体实数|任意实数|所有实数"
)
_EXCEPT = re.compile(
    r"^(.*?)\s*(?:\\setminus|\bexcept(?:\s+for)?\b|\bsuch that x \\ne|-(?=\s*\\\{))\s*(.*)$"
)
_QUALIFIER = re.compile(
    r"\s*,?\s*(?:where|with|for|and)?\s*[A-Za-z]\s*\\in\s*\\mathbb\{?\s*[RZN]\s*\}?$"
)


@dataclass(frozen=True, slots=True)
class Span:
    """The numbers from `low` to `high`; a closed end belongs to it."""

    low: Node
    high: Node
    has_low: bool
    has_high: bool


@dataclass(frozen=True, slots=True)
class Region:
    """A union of spans, of the variable when the text names one."""

    spans: tuple[Span, ...]
    variable: str | None = None


_FLIPPED = {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le"}
_EVERYTHING = (Span(MINUS_INFINITY, INFINITY, False, False),)


def read_region(text: str) -> Region | None:
    """The set of reals that a (tidy) text describes, or None; a lone `(1, 2)` is left to others."""
    text = _FROM_THE_REALS.sub("", in_signs(text))
    if match := _IN.match(text):
        inner = read_region(text[match.end() :]) or _one_bracket(text[match.end() :])
        return replace(inner, variable=match[1]) if inner is not None else None
    if (bracket := bracketed(text)) and bracket[0] in (r"\{", "{"):
        builder = _BUILDER.match(bracket[1])
        return read_region(builder[2]) if builder else None
    if _REALS.fullmatch(text):
        return Region(_EVERYTHING)
    if re.search(_RELATION, text) and re.search(r"\\(?:le|ge|ne)(?![A-Za-z])|[<>]", text):
        return _relations(_QUALIFIER.sub("", text))
    if match := _EXCEPT.match(text):
        whole, points = read_region(match[1]) or _one_bracket(match[1]), _points(match[2])
        if whole is not None and points:
            return Region(_without(whole.spans, points), whole.variable)
    if r"\cup" in text or re.search(r"(?<![a-z])U(?![a-z])", text):
        pieces = [_piece(part) for part in split_top(text, r"\\cup(?![A-Za-z])|U(?![a-z])")]
        if all(piece is not None for piece in pieces):
            return Region(_merged([span for piece in pieces if piece for span in piece]))
        return None
    bracket = bracketed(text)
    if bracket and (bracket[0] + bracket[2] in ("[)", "(]") or "infty" in text):
        return _one_bracket(text)
    return None


def same_region(gold: Region, answer: Region) -> bool | None:
    """Whether two regions hold the same numbers (of the same variable, where both name one)."""
    if gold.variable and answer.variable and gold.variable != answer.variable:
        return False
    if len(gold.spans) != len(answer.spans):
        return False
    verdicts: list[bool | None] = []
    for one, other in zip(gold.spans, answer.spans, strict=True):
        if (one.has_low, one.has_high) != (other.has_low, other.has_high):
            return False
        verdicts += [same_number(one.low, other.low), same_number(one.high, other.high)]
    return False if False in verdicts else None if None in verdicts else True


def _one_bracket(text: str) -> Region | None:
    """An interval such as `[0, 1)`."""
    bracket = bracketed(text)
    if bracket is None or bracket[0] not in "([" or bracket[2] not in ")]":
        return None
    ends = [read_expression(end.lstrip("+")) for end in split_top(bracket[1], "[,;]")]
    if len(ends) != 2 or ends[0] is None or ends[1] is None:
        return None
    low, high = as_float(ends[0]), as_float(ends[1])
    if low is not None and high is not None and low > high:
        return None
    span = Span(
        ends[0],
        ends[1],
        bracket[0] == "[" and low not in (-math.inf, math.inf),
        bracket[2] == "]" and high not in (-math.inf, math.inf),
    )
    return Region((span,))


def _piece(text: str) -> tuple[Span, ...] | None:
    """A member of a union: an interval, a set of points, or a bracket around either."""
    region = _one_bracket(text) or read_region(text)
    if region is not None:
        return region.spans
    points = _points(text)
    return tuple(Span(point, point, True, True) for point in points) if points else None


def _points(text: str) -> list[Node]:
    bracket = bracketed(text)
    content = bracket[1] if bracket and bracket[0] in (r"\{", "{") else text
    content = re.sub(r"^[A-Za-z]\s*=\s*", "", content)
    points = [read_expression(part) for part in split_top(content, r",|\band\b")]
    return [] if None in points else [point for point in points if point is not None]


# -------------------------------------------------------------------- inequalities


def _relations(text: str) -> Region | None:
    """Inequalities joined by "or" (a union) or by "and" and commas (all of them hold)."""
    union: list[Span] = []
    variables: set[str] = set()
    for alternative in split_top(text, r"\bor\b|\\cup(?![A-Za-z])|或"):
        spans: tuple[Span, ...] | None = _EVERYTHING
        for part in split_top(alternative, r"\band\b|,|;|且|和|&"):
            if not part:
                continue
            solved = _chain(part, variables)
            spans = _intersection(spans, solved) if solved and spans is not None else None
        if spans is None:
            return None
        union += spans
    if len(variables) != 1:
        return None
    return Region(_merged(union), variables.pop())


def _chain(text: str, variables: set[str]) -> tuple[Span, ...] | None:
    """The solutions of one chain such as `2 < x \\le 5`, whose variable is noted."""
    parts = split_top(text, _RELATION)
    signs = [sign.strip() for sign in re.findall(_RELATION, text)]
    if len(parts) != len(signs) + 1 or not signs:
        return _excluded_too(text, variables)
    spans: tuple[Span, ...] | None = _EVERYTHING
    sides = [read_expression(part) for part in parts]
    for left, sign, right in zip(sides, signs, sides[1:], strict=False):
        if left is None or right is None:
            return None
        solved = _solve(left, sign, right, variables)
        spans = _intersection(spans, solved) if solved and spans is not None else None
    return spans


def _excluded_too(text: str, variables: set[str]) -> tuple[Span, ...] | None:
    """A bare value in a list of excluded ones: the `3` of `x \\ne 2, 3`."""
    point = read_expression(text)
    if point is None or not variables:
        return None
    return _without(_EVERYTHING, [point])


def _solve(one: Node, sign: str, other: Node, variables: set[str]) -> tuple[Span, ...] | None:
    names = names_of(one) | names_of(other)
    if len(names) != 1:
        return _solve_for_symbol(one, sign, other, variables)
    (name,) = names
    variables.add(name)
    if one == Name(name) or other == Name(name):
        bound = other if one == Name(name) else one
        if name in names_of(bound):
            return None
        return _half_line(sign if one == Name(name) else _flipped(sign), bound)
    if any(isinstance(side, Call) and side.function == "abs" for side in (one, other)):
        return _solve_absolute(one, sign, other, variables)
    values = [_difference_at(one, other, name, at) for at in (0, 1, 2)]
    if not all(isinstance(value, Fraction) for value in values):
        return None
    start, slope = values[0], values[1] - values[0]  # type: ignore[operator]
    if slope == 0 or values[2] - values[1] != slope:  # type: ignore[operator]
        return None
    return _half_line(sign if slope > 0 else _flipped(sign), Number(-start / slope))  # type: ignore[operator]


def _solve_absolute(
    one: Node, sign: str, other: Node, variables: set[str]
) -> tuple[Span, ...] | None:
    """`|x - 2| < 3` and the like, for a positive bound."""
    if not (isinstance(one, Call) and one.function == "abs"):
        one, sign, other = other, _flipped(sign), one
    size = as_float(other)
    if not isinstance(one, Call) or size is None or size <= 0 or sign not in _FLIPPED:
        return None
    upper = _solve(one.arguments[0], sign, other, variables)
    lower = _solve(one.arguments[0], _flipped(sign), Call("neg", (other,)), variables)
    if upper is None or lower is None:
        return None
    return _intersection(upper, lower) if sign in ("<", r"\le") else _merged([*lower, *upper])


def _solve_for_symbol(
    one: Node, sign: str, other: Node, variables: set[str]
) -> tuple[Span, ...] | None:
    """`x > a`: a variable against an expression in parameters."""
    for side, bound, relation in ((one, other, sign), (other, one, _flipped(sign))):
        if not isinstance(side, Name) or side.name not in "xyztnmka":
            continue
        if side.name not in names_of(bound):
            variables.add(side.name)
            return _half_line(relation, bound)
    return None


def _difference_at(one: Node, other: Node, name: str, at: int) -> object:
    return value_of(substituted(Call("-", (one, other)), name, Number(Fraction(at))))


def _flipped(sign: str) -> str:
    return _FLIPPED.get(sign, sign)


def _half_line(sign: str, bound: Node) -> tuple[Span, ...]:
    match sign:
        case "<" | r"\le":
            is_closed = sign == r"\le" and bound != INFINITY
            return (Span(MINUS_INFINITY, bound, False, is_closed),)
        case ">" | r"\ge":
            is_closed = sign == r"\ge" and bound != MINUS_INFINITY
            return (Span(bound, INFINITY, is_closed, False),)
        case "=":
            return (Span(bound, bound, True, True),)
    return _without(_EVERYTHING, [bound])


# -------------------------------------------------------------------- algebra of spans


def _without(spans: Sequence[Span], points: Sequence[Node]) -> tuple[Span, ...]:
    for point in sorted(points, key=lambda point: as_float(point) or 0.0):
        halves = (*_half_line("<", point), *_half_line(">", point))
        spans = [piece for half in halves for piece in _intersection(spans, (half,)) or ()]
    return tuple(spans)


def _intersection(
    ones: Sequence[Span] | None, others: Sequence[Span] | None
) -> tuple[Span, ...] | None:
    """What lies in both, or None when an end is no number and their order unknown."""
    if ones is None or others is None:
        return None
    found = []
    for one in ones:
        for other in others:
            low, has_low = _inner(one.low, one.has_low, other.low, other.has_low, 1)
            high, has_high = _inner(one.high, one.has_high, other.high, other.has_high, -1)
            if low is None or high is None:
                return None
            start, end = as_float(low), as_float(high)
            if (
                start is None
                or end is None
                or start < end
                or (start == end and has_low and has_high)
            ):
                found.append(Span(low, high, has_low, has_high))
    return tuple(found)


def _inner(
    one: Node, has_one: bool, other: Node, has_other: bool, direction: int
) -> tuple[Node | None, bool]:
    """The end that lies further in."""
    outermost = MINUS_INFINITY if direction == 1 else INFINITY
    if one == outermost:
        return other, has_other
    if other == outermost:
        return one, has_one
    first, second = as_float(one), as_float(other)
    if first is None or second is None:
        return None, False
    if first == second:
        return one, has_one and has_other
    return (one, has_one) if direction * (first - second) > 0 else (other, has_other)


def _merged(spans: list[Span]) -> tuple[Span, ...]:
    """In order and without overlaps, where the ends are numbers."""
    if any(as_float(end) is None for span in spans for end in (span.low, span.high)):
        return tuple(spans)
    ordered = sorted(spans, key=lambda span: (as_float(span.low), not span.has_low))
    merged: list[Span] = []
    for span in ordered:
        last = merged[-1] if merged else None
        if last is not None:
            end, start = as_float(last.high), as_float(span.low)
            assert end is not None and start is not None
            if start < end or (start == end and (last.has_high or span.has_low)):
                merged[-1] = _longer(last, span)
                continue
        merged.append(span)
    return tuple(merged)


def _longer(last: Span, span: Span) -> Span:
    end, other = as_float(last.high), as_float(span.high)
    assert end is not None and other is not None
    if other > end:
        return replace(last, high=span.high, has_high=span.has_high)
    return replace(last, has_high=last.has_high or (other == end and span.has_high))
