r"""Families of solutions: `x = \frac{\pi}{4} + k\pi`, `n = 4m + 3`, `n \equiv -1 \pmod 4`.

The name of the integer is free, and so is the member at which it is 0.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from r1.rewards.answers.evaluation import Value, as_mp
from r1.rewards.answers.forms import (
    Equation,
    Form,
    Listing,
    Quantity,
    declared_parameter,
    read_form,
)
from r1.rewards.answers.nodes import Name, Node, Number, names_of, substituted, walk
from r1.rewards.answers.value import value_of

_CONGRUENCE = re.compile(
    r"(?:([a-z])\s*)?(?:\\equiv|=)\s*(.+?)\s*(?:\(?\s*\\?mod|\\pmod)\s*\{?\s*(\d+)\s*\}?\s*\)?$"
)
_BUILDER = re.compile(
    r"\\\{\s*[a-z]\s*(?:\\in\s*\\mathbb\s*\{?\s*Z\s*\}?)?\s*(?:[|:]|such that)\s*(.+)\\\}$"
)
_NATURAL = re.compile(r"\\mathbb\s*\{?\s*N|non-?negative|positive|_\+|\^\+|_\{>")
_PARAMETERS = "knmljt"
_MAX_MEMBERS = 60
_TOLERANCE = 1e-25


@dataclass(frozen=True, slots=True)
class Family:
    """The numbers `offset + k * period` of all members, for whole k."""

    members: tuple[tuple[Value, Value], ...]
    variable: str | None = None
    is_natural: bool = False
    is_stated: bool = True


def same_family(gold: str, answer: str) -> bool | None:
    """Whether two (tidy) texts describe the same family of numbers; None when one is none."""
    one, other = _read_family(gold), _read_family(answer)
    if one is None or other is None or not (one.is_stated or other.is_stated):
        return None
    if one.variable and other.variable and one.variable != other.variable:
        return False
    if one.is_natural or other.is_natural:  # a family with a first member
        pairs = [
            sorted((as_mp(start), as_mp(size)) for start, size in family.members)
            for family in (one, other)
        ]
        gaps = [
            abs(a - b)
            for mine, theirs in zip(*pairs, strict=False)
            for a, b in zip(mine, theirs, strict=True)
        ]
        return len(pairs[0]) == len(pairs[1]) and max(gaps) < _TOLERANCE
    period = max(abs(as_mp(size)) for _, size in (*one.members, *other.members))
    phases = _phases(one, period), _phases(other, period)
    if phases[0] is None or phases[1] is None:
        return False
    return _covers(phases[0], phases[1]) and _covers(phases[1], phases[0])


def _phases(family: Family, period: Value) -> list[Value] | None:
    """Where in one turn of `period` the members lie; None when theirs do not divide it."""
    phases = []
    for offset, size in family.members:
        ratio = period / abs(as_mp(size))
        count = int(ratio + 0.5)
        if abs(ratio - count) > _TOLERANCE or count * len(family.members) > _MAX_MEMBERS:
            return None
        phases += [(as_mp(offset) + turn * as_mp(size)) / period for turn in range(count)]
    return phases


def _covers(ones: list[Value], others: list[Value]) -> bool:
    def gap(one: Value, other: Value) -> Value:
        return abs(one - other - int(one - other + (0.5 if one >= other else -0.5)))

    return all(any(gap(one, other) < _TOLERANCE for other in others) for one in ones)


def _read_family(text: str) -> Family | None:
    if match := _BUILDER.match(text):
        text = match[1].strip()
    if match := _CONGRUENCE.match(text):
        residues = _nodes(read_form(match[2]))
        values = [value_of(node) for node in residues[1]] if residues else [None]
        if None in values:
            return None
        period = Fraction(match[3])
        return Family(tuple((value, period) for value in values), match[1]) if period else None
    flat = _nodes(read_form(text))
    if flat is None or not flat[1] or len(flat[1]) > _MAX_MEMBERS:
        return None
    variable, nodes = flat
    declared = declared_parameter(text)
    parameter = declared or next((name for name in _PARAMETERS if name in names_of(nodes[0])), "")
    if not parameter or (variable and re.search(rf"{parameter}(?![A-Za-z])", variable)):
        return None  # f(n) = 2n is a function
    # Without a word on the integer only angles are known to be repeated for all of them.
    is_stated = bool(declared) or any(Name("pi") in walk(node) for node in nodes)
    members = [_member(node, parameter) for node in nodes]
    if None in members:
        return None
    is_natural = _NATURAL.search(text) is not None
    return Family(tuple(member for member in members if member), variable, is_natural, is_stated)


def _member(node: Node, parameter: str) -> tuple[Value, Value] | None:
    values = [value_of(substituted(node, parameter, Number(Fraction(at)))) for at in (0, 1, 2)]
    if any(value is None for value in values):
        return None
    offset, next_one, after = values
    period = as_mp(next_one) - as_mp(offset)
    is_linear = abs(as_mp(after) - as_mp(next_one) - period) < _TOLERANCE
    return (offset, period) if is_linear and abs(period) > _TOLERANCE else None


def _nodes(form: Form) -> tuple[str | None, list[Node]] | None:
    """The expressions of a value or of a list of values, and the variable that they are for."""
    if isinstance(form, Equation) and form.label is not None:
        inner = _nodes(form.value)
        return (form.label, inner[1]) if inner else None
    if isinstance(form, Quantity):
        return None, [form.whole or form.node]
    if not isinstance(form, Listing):
        return None
    parts = [_nodes(item) for item in form.items]
    if None in parts:
        return None
    labels = {part[0] for part in parts if part} - {None}
    nodes = [node for part in parts if part for node in part[1]]
    return (labels.pop() if labels else None, nodes) if len(labels) < 2 else None
