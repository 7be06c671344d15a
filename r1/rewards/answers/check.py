"""Whether an answer is the gold answer: the same kind of thing, with equal parts, and why.

Nothing here waits or hangs. What cannot be decided by form and value (sums, integrals, logic)
is `None`, and the caller may ask math-verify in its own process.
"""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction

from r1.rewards.answers.expression import read_expression
from r1.rewards.answers.finding import Finding, kind_of, verdict
from r1.rewards.answers.forms import (
    Based,
    Chain,
    Choice,
    Clock,
    Date,
    Equation,
    Form,
    Group,
    Listing,
    Matrix,
    Nothing,
    Quantity,
    Ratio,
    Region,
    Unread,
    Words,
    read_form,
)
from r1.rewards.answers.nodes import Call, Number, names_of, walk
from r1.rewards.answers.other_readings import by_other_reading, with_argument_of, without_time
from r1.rewards.answers.question import Asked, breaks_rule, concise, option_text, restates
from r1.rewards.answers.scalars import compare_based, compare_quantities, compare_ratios
from r1.rewards.answers.sequences import (
    as_points,
    compare_groups,
    compare_lists,
    compare_regions,
)
from r1.rewards.answers.text import same_text, tidy
from r1.rewards.answers.value import (
    is_multiple,
    is_plain_number,
    numerator,
    same_number,
    same_value,
)
from r1.rewards.answers.words import same_clock, same_nothing, same_words, without_words_of

_MAX_DEPTH = 40


def check_answer(gold: str, answer: str, asked: Asked) -> Finding:
    """Compare two answers as typed."""
    if _depth(answer) > max(_MAX_DEPTH, _depth(gold)):
        return Finding(False, "nested too deeply for an answer")
    try:
        return _check(gold, answer, asked)
    except RecursionError:
        return Finding(None, "an expression that is nested too deeply")


def _depth(text: str) -> int:
    """How deep brackets lie in each other."""
    depth = deepest = 0
    for char in text:
        depth += 1 if char in "([{" else -1 if char in ")]}" else 0
        deepest = max(deepest, depth)
    return deepest


def _check(gold: str, answer: str, asked: Asked) -> Finding:
    gold, answer = tidy(gold), concise(tidy(answer), gold, asked)
    if not answer:
        return Finding(False, "no answer")
    answer = with_argument_of(gold, answer)
    gold = without_time(gold, answer)
    if same_text(gold) == same_text(answer):
        return Finding(True, "same text")
    gold_form, form = _simplest(read_form(gold)), _simplest(read_form(answer))
    if restates(gold, answer, form, asked):
        return Finding(False, "the answer repeats an expression of the question")
    is_value = isinstance(gold_form, Quantity) and is_plain_number(gold_form.node)
    if isinstance(form, Unread) and (is_value or not re.search(r"\w", answer)):
        return Finding(False, "the answer cannot be read as a value")
    if isinstance(gold_form, Unread) and not re.search(r"[A-Za-z\\]", gold):
        return Finding(False, "different text")
    if (complaint := breaks_rule(form, asked)) is not None:
        return Finding(False, complaint)
    if isinstance(gold_form, Words) and same_words(gold, without_words_of(asked.text, answer)):
        return Finding(True, "same words")
    finding = compare(gold_form, form, asked)
    if finding.is_equal is not True and (retried := by_other_reading(gold, answer, asked)):
        return retried
    return finding


def compare(gold: Form, answer: Form, asked: Asked) -> Finding:
    """Compare two forms; kinds that never match are different."""
    if isinstance(gold, Listing) != isinstance(answer, Listing):
        gold, answer = as_points(gold, answer), as_points(answer, gold)
    if isinstance(gold, Equation) or isinstance(answer, Equation):
        return _compare_equations(gold, answer, asked)
    if isinstance(gold, Listing) or isinstance(answer, Listing):
        return compare_lists(gold, answer, asked, compare)
    if isinstance(gold, Group | Matrix) or isinstance(answer, Group | Matrix):
        return compare_groups(gold, answer, asked, compare)
    if isinstance(gold, Region) or isinstance(answer, Region):
        return compare_regions(gold, answer)
    if isinstance(gold, Choice) or isinstance(answer, Choice):
        return _compare_choices(gold, answer, asked)
    if isinstance(gold, Quantity) and isinstance(answer, Quantity):
        return compare_quantities(gold, answer, asked)
    match gold, answer:
        case Nothing(), Nothing():
            return verdict(same_nothing(gold.kind, answer.kind), "says that there is none")
        case Clock(), Clock() if not asked.about_ratio:
            return verdict(same_clock(gold.time, answer.time), "time of day")
        case Date(), Date():
            years = {gold.date[0], answer.date[0]} - {None}
            same = gold.date[1:] == answer.date[1:] and len(years) < 2
            return verdict(same, "date")
        case Chain(), Chain():
            if gold.signs != answer.signs or len(gold.sides) != len(answer.sides):
                return Finding(False, "another inequality")
            same = [same_value(*sides) for sides in zip(gold.sides, answer.sides, strict=True)]
            return verdict(False if False in same else None if None in same else True, "inequality")
        case Words(), Words():
            return verdict(same_words(gold.text, answer.text), "words")
    return _compare_rest(gold, answer, asked)


def _compare_rest(gold: Form, answer: Form, asked: Asked) -> Finding:
    """Ratios and numbers in other bases against what they may also be written as."""
    if isinstance(gold, Ratio | Clock) and isinstance(answer, Ratio | Clock | Quantity):
        return compare_ratios(gold, answer, asked)
    if isinstance(gold, Quantity) and isinstance(answer, Ratio):
        return compare_ratios(answer, gold, asked)
    if isinstance(gold, Based) or isinstance(answer, Based):
        return compare_based(gold, answer, asked)
    if any(isinstance(form, Unread) and r"\ldots" in form.text for form in (gold, answer)):
        return Finding(False, "another pattern")
    if isinstance(gold, Unread) and isinstance(answer, Unread):
        return Finding(None, "a notation that only algebra decides")
    if isinstance(gold, Unread) and isinstance(answer, Quantity):
        return Finding(None, "a notation that only algebra decides")
    if isinstance(gold, Quantity) and isinstance(answer, Unread):
        return Finding(None, "a notation that only algebra decides")
    return Finding(False, f"{kind_of(answer)} where the gold is {kind_of(gold)}")


def _compare_equations(gold: Form, answer: Form, asked: Asked) -> Finding:
    """`x = 5` is the value 5; equations without a label are compared as curves."""
    if isinstance(gold, Equation) and isinstance(answer, Equation):
        same_labels = gold.label is not None and _labels_agree(gold.label, answer.label)
        if same_labels:
            finding = compare(gold.value, answer.value, asked)
            if finding.is_equal is not False or gold.label == answer.label:
                return finding
        if gold.label is not None and not _has_variables(gold.value):
            reason = "different values" if same_labels else "the value of another variable"
            if answer.label is None:
                if answer.right == Number(Fraction(0)):
                    return _same_curve(gold, answer)
                reason = "an equation that is not solved"
            return Finding(False, reason)
        return _same_curve(gold, answer)
    if isinstance(gold, Equation):
        if gold.label is None:
            return Finding(False, "an expression where the gold is an equation")
        return compare(gold.value, answer, asked)
    assert isinstance(answer, Equation)
    if answer.label is not None:
        return compare(gold, answer.value, asked)
    if answer.left is None or answer.right is None:
        if _is_result(answer):
            return compare(gold, answer.value, asked)
        if isinstance(gold, Quantity) and not names_of(gold.node):
            return Finding(False, "an equation where the gold is a value")
        return Finding(None, "an equation that only algebra decides")
    if names_of(answer.left):
        if any(isinstance(part, Number) for part in walk(answer.left)) or names_of(answer.right):
            return Finding(False, "an equation where the gold is none")
        return compare(gold, answer.value, asked)  # m + n = 106
    if not same_number(answer.left, answer.right):
        return Finding(False, "an equation that does not hold")
    if is_plain_number(answer.left) and not is_plain_number(answer.right):
        return compare(gold, Quantity(answer.left), asked)
    return compare(gold, answer.value, asked)


def _is_result(equation: Equation) -> bool:
    r"""Whether a side that is no formula is said to be a number: `N \bmod 1000 = 809`."""
    if not (isinstance(equation.value, Quantity) and is_plain_number(equation.value.node)):
        return False
    if equation.left is not None:  # 60 - 10 = 50 apples
        return same_number(equation.left, equation.value.node) is True
    is_named = re.search(r"\\|[A-Za-z]{2}|[\u4e00-\u9fff]", equation.left_text) is not None
    return is_named and equation.right != Number(Fraction(0))


def _labels_agree(gold: str, label: str | None) -> bool:
    if label is None:
        return False
    if gold == label:
        return True
    # y = 2x + 3 and f(x) = 2x + 3 are the same function; "Area" and A the same quantity.
    shapes = {"f" if re.fullmatch(r"\w\(\w\)|y", name) else name for name in (gold, label)}
    if len(shapes) == 1 and (gold == "y" or label == "y"):
        return True
    return any(
        re.fullmatch(r"[a-z]{3,}.*|[A-Z][a-z]{2,}.*|[\u4e00-\u9fff]+", name)
        for name in (gold, label)
    )


def _has_variables(form: Form) -> bool:
    return isinstance(form, Quantity) and bool(names_of(form.whole or form.node))


def _same_curve(gold: Equation, answer: Equation) -> Finding:
    sides = (gold.left, gold.right, answer.left, answer.right)
    if any(side is None for side in sides):
        return Finding(None, "equations that only algebra decides")
    one = Call("-", (sides[0], sides[1]))  # type: ignore[arg-type]
    other = Call("-", (sides[2], sides[3]))  # type: ignore[arg-type]
    if names_of(one) != names_of(other):
        return Finding(False, "equations in other variables")
    if not names_of(one):
        return verdict(None, "equation")
    return verdict(is_multiple(numerator(one), numerator(other)), "equation")


def _compare_choices(gold: Form, answer: Form, asked: Asked) -> Finding:
    """Letters of options; what stands behind the letter may stand for it."""
    if isinstance(gold, Choice) and isinstance(answer, Choice):
        return verdict(gold.letter == answer.letter, "option")
    choice, other = (gold, answer) if isinstance(gold, Choice) else (answer, gold)
    assert isinstance(choice, Choice)
    if isinstance(other, Words) and re.fullmatch(r"[a-z]", other.text):
        return verdict(other.text.upper() == choice.letter, "option")
    if choice is gold and not choice.rest and (option := option_text(choice.letter, asked.text)):
        choice = replace(choice, rest=option)
        gold = choice
    if choice.rest:
        if (spelled := _spelled(other)) is not None:
            return check_answer(choice.rest, spelled, asked)
        return (
            compare(read_form(choice.rest), other, asked)
            if choice is gold
            else compare(other, read_form(choice.rest), asked)
        )
    if isinstance(other, Quantity) and other.whole is not None:
        same = same_value(other.whole, read_expression(choice.letter) or other.whole)
        small = read_expression(choice.letter.lower())
        is_small = choice is gold and other.whole == small and choice.letter in "ABCDEFGHIJ"
        return verdict(bool(same) or is_small, "option")
    return Finding(False, f"{kind_of(answer)} where the gold is {kind_of(gold)}")


def _spelled(form: Form) -> str | None:
    return form.text if isinstance(form, Words | Unread) else None


def _simplest(form: Form) -> Form:
    """A set or list of one value or tuple is that one."""
    if isinstance(form, Listing) and len(form.items) == 1:
        (item,) = form.items
        return item if isinstance(item, Quantity | Group) else form
    if isinstance(form, Listing) and not form.items:
        return Nothing("none")
    return form
