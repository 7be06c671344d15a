"""What an answer may also mean: other names for the same, and second looks when it seems wrong."""

from __future__ import annotations

import itertools
import re

from r1.rewards.answers.expression import read_expression
from r1.rewards.answers.families import same_family
from r1.rewards.answers.finding import Finding, verdict
from r1.rewards.answers.forms import Equation, Form, Quantity, Words, read_form
from r1.rewards.answers.nodes import Name, Node, names_of, substituted
from r1.rewards.answers.question import Asked
from r1.rewards.answers.value import same_value

_FORALL = re.compile(r"^\\forall\s*[A-Za-z][^,:]{0,30}[,:]\s*")
_DEFINED = re.compile(r"(?<![A-Za-z\\])([A-Za-z])\s*\(\s*([a-z])\s*\)\s*=")
_CONSTANT = re.compile(r"[A-DKck](?:_\w)?")
_MAX_CONSTANTS = 4


def with_argument_of(gold: str, answer: str) -> str:
    """`f(x) = x` as the `f(n) = n` of the gold; and a function of time as the gold writes it."""
    answer = _FORALL.sub("", answer)
    defined, other = _DEFINED.search(gold), _DEFINED.search(answer)
    if defined and other and defined[1] == other[1] and defined[2] != other[2]:
        letters = rf"(?<![A-Za-z\\]){other[2]}(?![A-Za-z])"
        if not re.search(rf"(?<![A-Za-z\\]){defined[2]}(?![A-Za-z])", answer):
            return re.sub(letters, defined[2], answer)
    return answer


def without_time(gold: str, answer: str) -> str:
    """A gold's `f(t)` as the `f` of an answer that leaves the argument out everywhere."""
    of_time = r"(?<=[A-Za-z}])\s*\(\s*t\s*\)"
    is_equation = "=" in gold and not _DEFINED.search(gold)
    return re.sub(of_time, " ", gold) if is_equation and not re.search(of_time, answer) else gold


def by_other_reading(gold: str, answer: str, asked: Asked) -> Finding | None:
    """The comma as decimal point, and a product of letters that reads like a word."""
    if (same := same_family(gold, answer)) is not None:
        return verdict(same, "family of numbers")
    options = _options(gold)
    if options and options == _options(answer):
        return Finding(True, "the same options")
    for one, other in ((gold, answer), (answer, gold)):
        # With one digit behind it the comma may as well separate: 1,2 is not 1.2.
        is_decimal = re.fullmatch(r"-?(?:\d+,\d\d+|0,\d)", other)
        if is_decimal and other.replace(",", ".") == one:
            return Finding(True, "a decimal comma")
    gold_form, form = read_form(gold), read_form(answer)
    if asked.has_constants and _same_but_constants(gold_form, form):
        return Finding(True, "equal but for the names of constants")
    for one, other in ((gold_form, form), (form, gold_form)):
        if not (isinstance(one, Words) and isinstance(other, Quantity)):
            continue
        if other.whole is None or not re.fullmatch(r"[a-z]{3}", one.text):
            continue
        product = read_expression(one.text)  # abc, against a b c
        if product is not None and len(names_of(product)) == 3 and same_value(product, other.whole):
            return Finding(True, "equal products")
    return None


def _same_but_constants(gold: Form, answer: Form) -> bool:
    """Equal solutions with arbitrary constants of other names."""
    one, other = _formula(gold), _formula(answer)
    if one is None or other is None:
        return False
    mine, theirs = (sorted(names_of(node)) for node in (one, other))
    mine, theirs = [n for n in mine if n not in theirs], [n for n in theirs if n not in mine]
    if len(mine) != len(theirs) or not 0 < len(mine) <= _MAX_CONSTANTS:
        return False
    if not all(_CONSTANT.fullmatch(name) for name in (*mine, *theirs)):
        return False
    for names in itertools.permutations(mine):
        renamed = other
        for name, new in zip(theirs, names, strict=True):
            renamed = substituted(renamed, name, Name(new))
        if same_value(one, renamed):
            return True
    return False


def _formula(form: Form) -> Node | None:
    if isinstance(form, Equation):
        return _formula(form.value)
    return (form.whole or form.node) if isinstance(form, Quantity) else None


def _options(text: str) -> list[str]:
    """The options that `ACD`, or `A, C and D` in any order, names; other orders are words."""
    letters = re.sub(r"\s|,|\band\b|[和与及()]", "", text)
    ordered = sorted(letters)
    is_list = letters != text or list(letters) == ordered
    return ordered if is_list and re.fullmatch(r"[A-H]{2,8}", letters) else []
