"""Numbers and formulas with what belongs to them: a unit, a currency, a percent sign."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from fractions import Fraction

from r1.rewards.answers.expression import read_expression
from r1.rewards.answers.nodes import Call, Node, Number, names_of
from r1.rewards.answers.units import Unit, read_unit
from r1.rewards.answers.value import literal
from r1.rewards.answers.words import spelled_number


@dataclass(frozen=True, slots=True)
class Quantity:
    """A value, its unit if one is stated, and the text as one expression where it is one."""

    node: Node
    unit: Unit | None = None
    is_percent: bool = False
    whole: Node | None = None


_MONEY = re.compile(r"^(-?)\s*\\?([$€£¥₹]|USD|Rs\.?|RMB)\s*(?=[-\d.\\])")
_PERCENT = re.compile(
    r"\s*(?:%|percent(?:age)?(?:\s+points?)?|pct\.?)(?:\s+(?:increase|decrease|off|loss|gain|chance))?$",
    re.IGNORECASE,
)
_SCALES = {
    "hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12,
    "dozen": 12, "万": 10**4, "亿": 10**8, "千": 1000, "百": 100,
}  # fmt: skip
_SCALED = re.compile(rf"(.*[\d}})])\s*({'|'.join(_SCALES)})\b\s*(.*)|(.*\d)\s*([万亿])(.*)")
_MAX_CUTS = 60
_TAIL = re.compile(r"(?<![A-Za-z\\])(?:\\mu [ms]|\\Omega|\\AA|[A-Za-z$€£¥₹¢℃℉\u4e00-\u9fff])")
_SEXAGESIMAL = re.compile(
    r"(\d+)\s*degrees\s*(\d+)\s*(?:'|\^\s*\{?\s*\\prime\s*\}?)\s*(?:(\d+)\s*(?:''|\"))?"
)
_COMPOUND_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]+|[\u4e00-\u9fff]+?(?=\d|$))\.?\s*,?\s*")
_TRIGONOMETRIC = re.compile(r"(?:sin|cos|tan|cot|sec|csc)(?![a-z])|degrees.*[^\s.]$")


def read_quantity(text: str) -> Quantity | None:
    """The quantity that the whole (tidy) text is, or None."""
    if (number := spelled_number(text)) is not None:
        return Quantity(Number(number))
    if match := _MONEY.match(text):
        rest = read_quantity(match[1] + text[match.end() :])
        if rest is None or (rest.unit is not None and rest.unit.noun != ""):
            dollars = rest is not None and rest.unit == read_unit(match[2])
            return rest if dollars else None
        return Quantity(rest.node, read_unit(match[2].rstrip(".")), rest.is_percent)
    if match := _PERCENT.search(text):
        node = _expression(text[: match.start()].removesuffix("\\").strip())
        return Quantity(node, None, True) if node is not None else None
    if match := re.fullmatch(r"百分之(.+)", text):
        inner = read_quantity(match[1])
        return Quantity(inner.node, None, True) if inner else None
    if match := _SEXAGESIMAL.fullmatch(text):
        parts = zip(match.groups(), (1, 60, 3600), strict=True)
        degrees = sum((Fraction(part) / size for part, size in parts if part), Fraction(0))
        return Quantity(Number(degrees), read_unit("degrees"))
    whole = _expression(text)
    if re.search(r"[万亿]", text) and (scaled := _scaled(text)) is not None:
        return scaled
    unit_form = _with_unit(text) if whole is None or not _TRIGONOMETRIC.search(text) else None
    if unit_form is not None:
        return Quantity(unit_form.node, unit_form.unit, unit_form.is_percent, whole)
    if whole is not None:
        return Quantity(whole, None, False, whole)
    return _scaled(text) or _compound(text)


def _expression(text: str) -> Node | None:
    """An expression that is no word: "east" and "odd" are no products of variables."""
    bare = re.sub(
        r"\\[A-Za-z]+|\b(?:sin|cos|tan|cot|sec|csc|log|ln|exp|sqrt|pi|arc\w+|max|min|gcd|lcm|abs|floor|ceil|binom|infinity|inf|degrees|theta|alpha|beta|lambda|mu|phi|omega)(?![a-z]{2})",
        " ",
        text,
    )
    runs = re.findall(r"[A-Za-z]+", bare)
    if any(len(run) >= 4 for run in runs):
        return None
    if any(run in ("and", "or", "the", "not", "odd", "yes", "no", "is") for run in runs):
        return None
    if re.fullmatch(r"[A-Za-z]{3}|[A-Z]{2}", text):
        return None
    if re.search(r"[A-Za-z] [A-Za-z]{3}(?![A-Za-z])|[a-z]{3} [a-z]", bare):
        return None
    return read_expression(text)


def _with_unit(text: str) -> Quantity | None:
    """The first cut of the text into a value and a unit (or, behind a number, a noun)."""
    for match in itertools.islice(_TAIL.finditer(text), _MAX_CUTS):
        start = match.start()
        head = text[:start].rstrip()
        if not head or not (head[-1] in ")}!%]." or head[-1].isdigit() or _ends_with_name(head)):
            continue
        has_space = text[start - 1] == " " or not text[start].isascii()
        tail = text[start:]
        unit = read_unit(tail, has_space=has_space)
        if unit is None:
            continue
        node = _expression(head.removesuffix("-").strip())
        if node is None or (unit.noun is not None and names_of(node)):
            continue
        if _is_juxtaposed_variable(tail, head) and names_of(node):
            continue
        return Quantity(node, unit)
    return None


def _ends_with_name(head: str) -> bool:
    return re.search(r"(?:\\[a-z]+|[A-Za-z])$", head) is not None


def _is_juxtaposed_variable(tail: str, head: str) -> bool:
    """Whether a one-letter unit stands in a formula with variables, where it is one more."""
    return len(tail) == 1 and re.search(r"[A-Za-z]", re.sub(r"\\[A-Za-z]+", "", head)) is not None


def _scaled(text: str) -> Quantity | None:
    """`3.5 million people`."""
    match = _SCALED.fullmatch(text)
    if match is None:
        return None
    head, word, rest = (
        (match[1], match[2], match[3]) if match[2] else (match[4], match[5], match[6])
    )
    value = read_quantity(head)
    if value is None or (value.unit is not None) or value.is_percent:
        return None
    unit = read_unit(rest) if rest.strip() else None
    if rest.strip() and unit is None:
        return None
    factor = Number(Fraction(_SCALES[word]))
    number = literal(value.node)
    if number is not None:
        return Quantity(Number(number.value * _SCALES[word]), unit)
    return Quantity(Call("*", (value.node, factor)), unit)


def _compound(text: str) -> Quantity | None:
    """`2 hours 30 minutes`, `5 ft 6 in`: parts of one measure, in its base unit."""
    text = re.sub(r"\band\b", " ", text)
    parts = []
    position = 0
    while position < len(text):
        match = _COMPOUND_PART.match(text, position)
        if match is None:
            return None
        unit = read_unit(match[2])
        if unit is None or unit.noun is not None:
            return None
        parts.append((Fraction(match[1]), unit))
        position = match.end()
    if len(parts) < 2 or len({unit.powers for _, unit in parts}) != 1:
        return None
    total = sum((value * unit.size for value, unit in parts), Fraction(0))
    return Quantity(Number(total), Unit(parts[0][1].powers))
