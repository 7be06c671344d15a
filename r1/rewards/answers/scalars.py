"""Comparing single values: units, percent signs, ratios, numbers in other bases."""

from __future__ import annotations

import re
from fractions import Fraction

from r1.rewards.answers.expression import read_expression
from r1.rewards.answers.finding import Finding, kind_of, verdict
from r1.rewards.answers.forms import Based, Clock, Form, Quantity, Ratio
from r1.rewards.answers.nodes import Call, Name, Node, Number, names_of, walk
from r1.rewards.answers.question import Asked
from r1.rewards.answers.units import same_unit
from r1.rewards.answers.value import (
    is_approximate,
    is_plain_number,
    is_unevaluated,
    same_number,
    same_value,
)

_ANGLE = (("angle", 1),)


def compare_quantities(gold: Quantity, answer: Quantity, asked: Asked) -> Finding:
    if gold.whole is not None and answer.whole is not None and gold.whole == answer.whole:
        return Finding(True, "same expression")
    if is_plain_number(gold.node) and is_unevaluated(answer.node):
        return Finding(False, "arithmetic that is not carried out")
    if asked.is_exact and is_approximate(gold.node, answer.node):
        return Finding(False, "a decimal where the question asks for the exact value")
    factor, complaint = _unit_factor(gold, answer, asked)
    if factor is None:
        finding = _as_whole(gold, answer, asked)
        return finding or Finding(False, complaint)
    for scale in _percent_scales(gold, answer, asked):
        node = answer.node if scale * factor == 1 else _times(answer.node, scale * factor)
        same = same_node(gold.node, node, asked)
        if same is not False:
            reason = "equal values" if same else "a value that only algebra decides"
            return Finding(same, reason)
    return _as_whole(gold, answer, asked) or Finding(False, "different values")


def _as_whole(gold: Quantity, answer: Quantity, asked: Asked) -> Finding | None:
    """Equal when the letters that looked like units are variables on both sides.

    The degree is a number too, so that a right angle is pi/2 unless degrees are asked for.
    """
    if gold.unit != answer.unit and re.search(r"degree|\\circ|°|radian", asked.text):
        return None
    one, other = gold.whole, answer.whole
    if one is None or other is None or (one == gold.node and other == answer.node):
        return None
    if names_of(one) != names_of(other):
        return None
    return Finding(True, "equal expressions") if same_value(one, other) else None


def _unit_factor(gold: Quantity, answer: Quantity, asked: Asked) -> tuple[Fraction | None, str]:
    """How many of the gold's units the answer's unit is; None with a complaint."""
    if gold.unit is not None and answer.unit is not None:
        factor = same_unit(answer.unit, gold.unit)
        if factor is None:
            return None, "another unit"
        return factor, ""
    stated = gold.unit or answer.unit
    if stated is None or stated.noun is not None:
        return Fraction(1), ""
    bare = answer if gold.unit is not None else gold
    if stated.powers == _ANGLE and Name("pi") in walk(bare.node):
        return None, "degrees against radians"
    if answer.unit is not None and asked.wanted_units:  # a bare gold is in the unit asked for
        fits = {same_unit(answer.unit, unit) for unit in asked.wanted_units} - {None}
        if len(fits) == 1:
            return fits.pop(), ""
        if not fits:
            return None, "another unit than the question asks for"
    if answer.unit is not None and asked.units:
        fits = {same_unit(answer.unit, unit) for unit in asked.units} - {None}
        if fits and Fraction(1) not in fits:
            return None, "another unit than the question asks for"
    return Fraction(1), ""


def _percent_scales(gold: Quantity, answer: Quantity, asked: Asked) -> list[Fraction]:
    """What the answer's number may be multiplied by to be in the gold's terms.

    50% is 0.5, and where a percentage is asked for its sign may be left out; but 0.5 where
    the gold is a bare 50 is off by a hundred.
    """
    if gold.is_percent == answer.is_percent:
        return [Fraction(1)]
    if gold.is_percent:
        return [Fraction(100)] if asked.as_decimal else [Fraction(1), Fraction(100)]
    is_fraction = isinstance(gold.node, Call)
    if is_fraction or (asked.text and not asked.about_percent):
        return [Fraction(1, 100)]
    return [Fraction(1), Fraction(1, 100)]


def same_node(gold: Node, answer: Node, asked: Asked) -> bool | None:
    if not names_of(gold) and not names_of(answer):
        return same_number(gold, answer, may_round=asked.may_round)
    return same_value(gold, answer)


def _times(node: Node, factor: Fraction) -> Node:
    if isinstance(node, Number):
        return Number(node.value * factor, None if factor > 1 else node.decimals)
    return Call("*", (node, Number(factor)))


def compare_ratios(gold: Form, answer: Form, asked: Asked) -> Finding:
    """3:4 is 6:8 and 3/4; with two digits of minutes it is a time unless a ratio is asked for."""
    parts = [_ratio_parts(form) for form in (gold, answer)]
    if parts[0] is None or parts[1] is None:
        return Finding(False, f"{kind_of(answer)} where the gold is {kind_of(gold)}")
    if len(parts[0]) != len(parts[1]):
        return Finding(False, "another number of parts")
    first, second = parts[0], parts[1]
    crossed = [
        same_number(Call("*", (first[0], two)), Call("*", (second[0], one)))
        for one, two in zip(first[1:], second[1:], strict=True)
    ]
    if isinstance(gold, Clock) and isinstance(answer, Clock) and not asked.about_ratio:
        crossed.append(gold.time == answer.time)
    return verdict(False if False in crossed else None if None in crossed else True, "ratio")


def _ratio_parts(form: Form) -> tuple[Node, ...] | None:
    match form:
        case Ratio():
            return form.parts
        case Clock():
            return tuple(Number(Fraction(part)) for part in form.time[:2])
        case Quantity() if isinstance(form.node, Call) and form.node.function == "/":
            return form.node.arguments
        case Quantity() if form.unit is None and not form.is_percent:
            return form.node, Number(Fraction(1))
    return None


def compare_based(gold: Form, answer: Form, asked: Asked) -> Finding:
    if isinstance(gold, Based) and isinstance(answer, Based):
        return verdict(gold == answer, "number in its base")
    based, other = (gold, answer) if isinstance(gold, Based) else (answer, gold)
    assert isinstance(based, Based)
    if isinstance(other, Quantity) and other.unit is None and asked.about_base:
        digits = read_expression(based.digits)
        return verdict(digits is not None and digits == other.node, "digits in the asked base")
    if isinstance(other, Quantity) and based.base == 10:
        digits = read_expression(based.digits)
        return verdict(digits is not None and digits == other.node, "number in base 10")
    return Finding(False, "a number in another base")
