"""Whether an answer is the gold answer: the same kind of thing, with equal parts, and why.

Nothing here waits or hangs. What cannot be decided by form and value (sums, integrals, logic)
is `None`, and the caller may ask math-verify in its own process.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from r1.rewards.answer_expression import Call, Node, Number, names_of, read_expression, walk
from r1.rewards.answer_forms import (
    Based, Chain, Choice, Clock, Date, Equation, Form, Group, Listing, Matrix, Nothing, Quantity, Ratio,
    Region, Unread, Words, read_form,
)  # fmt: skip
from r1.rewards.answer_regions import Span
from r1.rewards.answer_text import same_text, tidy
from r1.rewards.answer_units import Unit, question_units, same_unit
from r1.rewards.answer_value import (
    is_multiple, is_plain_number, is_unevaluated, same_number, same_value,
)  # fmt: skip
from r1.rewards.answer_words import same_clock, same_nothing, same_words

_MAX_PERMUTED = 40


@dataclass(frozen=True, slots=True)
class Finding:
    """Equal, not equal, or undecided here (None); and why."""

    is_equal: bool | None
    reason: str


@dataclass(frozen=True, slots=True)
class Asked:
    """What the question settles about the form of its answer."""

    text: str = ""
    may_round: bool = False
    about_percent: bool = True
    about_base: bool = False
    about_ratio: bool = False
    in_order: bool = False
    any_of_several: bool = False
    is_point: bool = False
    units: tuple[Unit, ...] = ()
    order_free: bool = False


def read_question(question: str | None, *, order_free: bool = False) -> Asked:
    """What can be learned from the question; without one nothing is held against an answer."""
    if not question:
        return Asked(order_free=order_free)

    def says(pattern: str) -> bool:
        return re.search(pattern, question, re.IGNORECASE) is not None

    return Asked(
        text=question,
        may_round=says(r"\bround|nearest|decimal place|approximat|significant|estimate|保留|约"),
        about_percent=says(r"%|percent|百分|rate|probability|chance"),
        about_base=says(r"\bbase\b|binary|octal|hexadecimal|_\{?\d"),
        about_ratio=says(r"\bratio\b|\bodds\b|比"),
        in_order=says(r"(?:in|from)\s+(?:increasing|decreasing|ascending|descending|order|least|"
                      r"smallest|largest|greatest|alphabetical)|respectively|ordered"),
        any_of_several=says(r"\bfind (?:one|any|an?)\b(?! \w+ (?:all|every))|one of the|either of"
                            r"|give (?:one|an?) example|enter only one|a possible"),
        is_point=says(r"\bcoordinates?\b|\bpoint\b|ordered (?:pair|triple)|\bvector\b|坐标"),
        units=tuple(question_units(question)),
        order_free=order_free,
    )  # fmt: skip


def check_answer(gold: str, answer: str, asked: Asked) -> Finding:
    """Compare two answers as typed."""
    gold, answer = tidy(gold), tidy(answer)
    if same_text(gold) == same_text(answer):
        return Finding(True, "same text")
    gold_form, form = read_form(gold), read_form(answer)
    if _restates(gold, answer, form, asked):
        return Finding(False, "the answer repeats an expression of the question")
    if isinstance(gold_form, Words) and same_words(gold, answer):
        return Finding(True, "same words")
    finding = compare(gold_form, form, asked)
    if finding.is_equal is not True and (retried := _by_other_reading(gold, answer, asked)):
        return retried
    return finding


def compare(gold: Form, answer: Form, asked: Asked) -> Finding:
    """Compare two forms; kinds that never match are different."""
    gold, answer = _simplest(gold), _simplest(answer)
    if isinstance(gold, Equation) or isinstance(answer, Equation):
        return _compare_equations(gold, answer, asked)
    if isinstance(gold, Listing) or isinstance(answer, Listing):
        return _compare_lists(gold, answer, asked)
    if isinstance(gold, Group | Matrix) or isinstance(answer, Group | Matrix):
        return _compare_groups(gold, answer, asked)
    if isinstance(gold, Region) or isinstance(answer, Region):
        return _compare_regions(gold, answer)
    if isinstance(gold, Choice) or isinstance(answer, Choice):
        return _compare_choices(gold, answer, asked)
    if isinstance(gold, Quantity) and isinstance(answer, Quantity):
        return _compare_quantities(gold, answer, asked)
    match gold, answer:
        case Nothing(), Nothing():
            return _verdict(same_nothing(gold.kind, answer.kind), "says that there is none")
        case Clock(), Clock():
            return _verdict(same_clock(gold.time, answer.time), "time of day")
        case Date(), Date():
            years = {gold.date[0], answer.date[0]} - {None}
            same = gold.date[1:] == answer.date[1:] and len(years) < 2
            return _verdict(same, "date")
        case Chain(), Chain():
            if gold.signs != answer.signs or len(gold.sides) != len(answer.sides):
                return Finding(False, "another inequality")
            same = [same_value(*sides) for sides in zip(gold.sides, answer.sides, strict=True)]
            return _verdict(False if False in same else None if None in same else True, "inequality")
        case Words(), Words():
            return _verdict(same_words(gold.text, answer.text), "words")
    return _compare_rest(gold, answer, asked)


def _compare_rest(gold: Form, answer: Form, asked: Asked) -> Finding:
    """Ratios and numbers in other bases against what they may also be written as."""
    if isinstance(gold, Ratio | Clock) and isinstance(answer, Ratio | Clock | Quantity):
        return _compare_ratios(gold, answer, asked)
    if isinstance(gold, Quantity) and isinstance(answer, Ratio):
        return _compare_ratios(answer, gold, asked)
    if isinstance(gold, Based) or isinstance(answer, Based):
        return _compare_based(gold, answer, asked)
    if isinstance(gold, Unread) and isinstance(answer, Unread):
        return Finding(None, "a notation that only algebra decides")
    if isinstance(gold, Unread) and isinstance(answer, Quantity):
        return Finding(None, "a notation that only algebra decides")
    if isinstance(gold, Quantity) and isinstance(answer, Unread):
        return Finding(None, "a notation that only algebra decides")
    return Finding(False, f"{_name(answer)} where the gold is {_name(gold)}")


# -------------------------------------------------------------------- quantities


def _compare_quantities(gold: Quantity, answer: Quantity, asked: Asked) -> Finding:
    if gold.whole is not None and answer.whole is not None and gold.whole == answer.whole:
        return Finding(True, "same expression")
    if is_plain_number(gold.node) and is_unevaluated(answer.node):
        return Finding(False, "arithmetic that is not carried out")
    factor, complaint = _unit_factor(gold, answer, asked)
    if factor is None:
        finding = _as_whole(gold, answer)
        return finding or Finding(False, complaint)
    for scale in _percent_scales(gold, answer, asked):
        node = answer.node if scale * factor == 1 else _times(answer.node, scale * factor)
        same = _same_node(gold.node, node, asked)
        if same is not False:
            reason = "equal values" if same else "a value that only algebra decides"
            return Finding(same, reason)
    return _as_whole(gold, answer) or Finding(False, "different values")


def _as_whole(gold: Quantity, answer: Quantity) -> Finding | None:
    """Equal when the letters that looked like units are variables on both sides."""
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
            radians = _radians(gold, answer)
            return (radians, "") if radians else (None, "another unit")
        return factor, ""
    stated = gold.unit or answer.unit
    if stated is None or stated.noun is not None:
        return Fraction(1), ""
    if answer.unit is not None and asked.units:
        fits = [same_unit(answer.unit, unit) for unit in asked.units]
        if any(fits) and Fraction(1) not in fits:
            return None, "another unit than the question asks for"
    return Fraction(1), ""


def _radians(gold: Quantity, answer: Quantity) -> Fraction | None:
    """Degrees against radians are compared by `_same_node` with pi, not by a factor."""
    return None


def _percent_scales(gold: Quantity, answer: Quantity, asked: Asked) -> list[Fraction]:
    """What the answer's number may be multiplied by to be in the gold's terms.

    50% is 0.5, and where a percentage is asked for its sign may be left out; but 0.5 where
    the gold is a bare 50 is off by a hundred.
    """
    if gold.is_percent == answer.is_percent:
        return [Fraction(1)]
    if gold.is_percent:
        return [Fraction(1), Fraction(100)]
    if asked.text and not asked.about_percent:
        return [Fraction(1, 100)]
    return [Fraction(1), Fraction(1, 100)]


def _same_node(gold: Node, answer: Node, asked: Asked) -> bool | None:
    if not names_of(gold) and not names_of(answer):
        return same_number(gold, answer, may_round=asked.may_round)
    return same_value(gold, answer)


def _times(node: Node, factor: Fraction) -> Node:
    if isinstance(node, Number):
        return Number(node.value * factor, None if factor > 1 else node.decimals)
    return Call("*", (node, Number(factor)))


# -------------------------------------------------------------------- several values


def _compare_lists(gold: Form, answer: Form, asked: Asked) -> Finding:
    gold_items, items = _items(gold), _items(answer)
    if isinstance(gold, Listing) and isinstance(answer, Listing | Group):
        if isinstance(answer, Group) and gold.is_set:
            return Finding(False, "a tuple where the gold is a set")
        if isinstance(answer, Group) and answer.brackets not in ("()", "<>") and len(items) == 2:
            return Finding(False, "an interval where the gold is a list")
    elif isinstance(gold, Group) and isinstance(answer, Listing):
        if answer.is_set and not asked.order_free:
            return Finding(False, "a set where the gold is a tuple")
        if gold.brackets not in ("()", "<>") and len(gold_items) == 2:
            return Finding(False, "a list where the gold is an interval")
    labelled = _labelled(gold_items), _labelled(items)
    if labelled[0] and labelled[1]:
        return _compare_labelled(labelled[0], labelled[1], asked)
    gold_items, items = _values(gold_items), _values(items)
    if isinstance(gold, Listing) and len(gold_items) > 1:
        alternatives = [compare(item, answer, asked) for item in _accepted(gold, gold_items, asked)]
        if any(finding.is_equal for finding in alternatives):
            return Finding(True, "one of the accepted values")
    has_order = isinstance(gold, Group) or isinstance(answer, Group) or asked.in_order
    has_order = has_order or bool(labelled[0]) or bool(labelled[1])
    if len(gold_items) != len(items):
        deduplicated = _distinct(gold_items, asked), _distinct(items, asked)
        if has_order or len(deduplicated[0]) != len(deduplicated[1]):
            return Finding(False, f"{len(items)} values where the gold has {len(gold_items)}")
        gold_items, items = deduplicated
    if has_order and not asked.order_free:
        return _all_equal(gold_items, items, asked)
    return _matched(gold_items, items, asked)


def _accepted(gold: Listing, items: Sequence[Form], asked: Asked) -> Sequence[Form]:
    """The members of "A or B" of which one is enough: they are equal, or one is asked for."""
    if not gold.is_choice:
        return ()
    if asked.any_of_several:
        return items
    return items if all(compare(items[0], item, asked).is_equal for item in items[1:]) else ()


def _items(form: Form) -> tuple[Form, ...]:
    return form.items if isinstance(form, Listing | Group) else (form,)


def _labelled(items: Sequence[Form]) -> dict[str, Form]:
    """`x = 1, y = 2` as a mapping, empty when not every item has its own label."""
    labels = {
        item.label: item.value for item in items if isinstance(item, Equation) and item.label
    }
    return labels if len(labels) == len(items) and len(items) > 1 else {}


def _values(items: Sequence[Form]) -> tuple[Form, ...]:
    """Without labels, when every item has one."""
    if all(isinstance(item, Equation) and item.label for item in items):
        return tuple(item.value for item in items if isinstance(item, Equation))
    return tuple(items)


def _compare_labelled(gold: dict[str, Form], answer: dict[str, Form], asked: Asked) -> Finding:
    if set(gold) != set(answer):
        return Finding(False, "values of other variables")
    return _all_equal(list(gold.values()), [answer[label] for label in gold], asked)


def _all_equal(gold: Sequence[Form], answer: Sequence[Form], asked: Asked) -> Finding:
    findings = [compare(one, other, asked) for one, other in zip(gold, answer, strict=True)]
    for index, finding in enumerate(findings, start=1):
        if finding.is_equal is False:
            return Finding(False, f"part {index}: {finding.reason}")
    if any(finding.is_equal is None for finding in findings):
        return Finding(None, "a part that only algebra decides")
    return Finding(True, "equal parts")


def _matched(gold: Sequence[Form], answer: Sequence[Form], asked: Asked) -> Finding:
    """Every gold value has its own equal value in the answer, in any order."""
    if len(gold) > _MAX_PERMUTED:
        return _all_equal(gold, answer, asked)
    left, is_sure = list(answer), True
    for item in gold:
        findings = [compare(item, other, asked).is_equal for other in left]
        if True in findings:
            del left[findings.index(True)]
        elif None in findings:
            is_sure = False
        else:
            return Finding(False, "a value of the gold is missing")
    return Finding(True, "equal values") if is_sure else Finding(None, "only algebra decides")


def _distinct(items: Sequence[Form], asked: Asked) -> list[Form]:
    kept: list[Form] = []
    for item in items[:_MAX_PERMUTED]:
        if not any(compare(other, item, asked).is_equal for other in kept):
            kept.append(item)
    return kept


def _compare_groups(gold: Form, answer: Form, asked: Asked) -> Finding:
    """Tuples, vectors and matrices; a region where a bracket turns out to be an interval."""
    if isinstance(gold, Region) or isinstance(answer, Region):
        regions = _as_region(gold), _as_region(answer)
        if regions[0] is None or regions[1] is None:
            return Finding(False, f"{_name(answer)} where the gold is {_name(gold)}")
        return _compare_regions(regions[0], regions[1])
    if isinstance(gold, Matrix) or isinstance(answer, Matrix):
        return _compare_matrices(gold, answer, asked)
    if not (isinstance(gold, Group) and isinstance(answer, Group)):
        return Finding(False, f"{_name(answer)} where the gold is {_name(gold)}")
    if len(gold.items) != len(answer.items):
        return Finding(False, f"{len(answer.items)} parts where the gold has {len(gold.items)}")
    is_interval = len(gold.items) == 2 and not asked.is_point
    if gold.brackets != answer.brackets and is_interval and "<>" not in (gold.brackets, answer.brackets):
        return Finding(False, "open and closed ends differ")
    if asked.order_free:
        return _matched(gold.items, answer.items, asked)
    return _all_equal(gold.items, answer.items, asked)


def _compare_matrices(gold: Form, answer: Form, asked: Asked) -> Finding:
    rows, other_rows = _rows(gold), _rows(answer)
    if rows is None or other_rows is None:
        return Finding(False, f"{_name(answer)} where the gold is {_name(gold)}")
    if not (isinstance(gold, Matrix) and isinstance(answer, Matrix)) and len(rows) == 1 != len(other_rows):
        rows = tuple(zip(*rows, strict=True))
    if not (isinstance(gold, Matrix) and isinstance(answer, Matrix)) and len(other_rows) == 1 != len(rows):
        other_rows = tuple(zip(*other_rows, strict=True))
    if (len(rows), len(rows[0])) != (len(other_rows), len(other_rows[0])):
        return Finding(False, "another shape")
    verdicts = [
        _same_node(one, other, asked)
        for row, other_row in zip(rows, other_rows, strict=True)
        for one, other in zip(row, other_row, strict=True)
    ]
    if False in verdicts:
        return Finding(False, f"entry {verdicts.index(False) + 1} differs")
    return Finding(None if None in verdicts else True, "equal entries")


def _rows(form: Form) -> tuple[tuple[Node, ...], ...] | None:
    """A matrix, or a tuple as a matrix of one row."""
    if isinstance(form, Matrix):
        return form.rows
    if isinstance(form, Group) and all(isinstance(item, Quantity) for item in form.items):
        return (tuple(item.node for item in form.items if isinstance(item, Quantity)),)
    return None


def _as_region(form: Form) -> Region | None:
    if isinstance(form, Group) and len(form.items) == 2:
        ends = [item.node for item in form.items if isinstance(item, Quantity)]
        if len(ends) == 2 and form.brackets[0] in "([":
            span = Span(ends[0], ends[1], form.brackets[0] == "[", form.brackets[1] == "]")
            return Region((span,))
    return form if isinstance(form, Region) else None


def _compare_regions(gold: Form, answer: Form) -> Finding:
    if not (isinstance(gold, Region) and isinstance(answer, Region)):
        return Finding(False, f"{_name(answer)} where the gold is {_name(gold)}")
    from r1.rewards.answer_regions import same_region

    return _verdict(same_region(gold, answer), "set of numbers")


# -------------------------------------------------------------------- equations


def _compare_equations(gold: Form, answer: Form, asked: Asked) -> Finding:
    """`x = 5` is the value 5; equations without a label are compared as curves."""
    if isinstance(gold, Equation) and isinstance(answer, Equation):
        same_labels = gold.label is not None and _labels_agree(gold.label, answer.label)
        if same_labels and not (
            finding := compare(gold.value, answer.value, asked)
        ).is_equal is False:
            return finding
        if gold.label is not None and not _has_variables(gold.value):
            reason = "different values" if same_labels else "the value of another variable"
            if answer.label is None:
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
        return Finding(None, "an equation that only algebra decides")
    if names_of(answer.left):
        return Finding(False, "an equation where the gold is none")
    if not same_number(answer.left, answer.right):
        return Finding(False, "an equation that does not hold")
    return compare(gold, answer.value, asked)


def _labels_agree(gold: str, label: str | None) -> bool:
    if label is None:
        return False
    if gold == label:
        return True
    # y = 2x + 3 and f(x) = 2x + 3 are the same function; "Area" and A the same quantity.
    shapes = {"f" if re.fullmatch(r"\w\(\w\)|y", name) else name for name in (gold, label)}
    if len(shapes) == 1 and (gold == "y" or label == "y"):
        return True
    return any(re.fullmatch(r"[a-z]{3,}.*|[A-Z][a-z]{2,}.*|[\u4e00-\u9fff]+", name) for name in (gold, label))


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
    if gold.label is None and not gold_is_curve(one):
        return _verdict(None, "equation")
    multiple = is_multiple(one, other)
    if multiple or not _is_rational(one) or not _is_rational(other):
        return _verdict(multiple, "equation")
    return Finding(None, "equations that only algebra decides")


def gold_is_curve(node: Node) -> bool:
    """Whether an equation has a variable at all."""
    return bool(names_of(node))


def _is_rational(node: Node) -> bool:
    """Whether clearing denominators could make two equations the same."""
    return any(
        isinstance(part, Call) and part.function == "/" and names_of(part.arguments[1])
        for part in walk(node)
    )


# -------------------------------------------------------------------- the other kinds


def _compare_choices(gold: Form, answer: Form, asked: Asked) -> Finding:
    """Letters of options; what stands behind the letter may stand for it."""
    if isinstance(gold, Choice) and isinstance(answer, Choice):
        return _verdict(gold.letter == answer.letter, "option")
    choice, other = (gold, answer) if isinstance(gold, Choice) else (answer, gold)
    assert isinstance(choice, Choice)
    if isinstance(other, Words) and re.fullmatch(r"[a-z]", other.text):
        return _verdict(other.text.upper() == choice.letter, "option")
    if choice.rest:
        finding = check_answer(choice.rest, _spelled(other), asked) if _spelled(other) else None
        if finding is not None:
            return finding
        return compare(read_form(choice.rest), other, asked) if choice is gold else compare(
            other, read_form(choice.rest), asked
        )
    if isinstance(other, Quantity) and other.whole is not None:
        same = same_value(other.whole, read_expression(choice.letter) or other.whole)
        small = read_expression(choice.letter.lower())
        is_small = choice is gold and other.whole == small and choice.letter in "ABCDEFGHIJ"
        return _verdict(bool(same) or is_small, "option")
    return Finding(False, f"{_name(answer)} where the gold is {_name(gold)}")


def _spelled(form: Form) -> str | None:
    return form.text if isinstance(form, Words | Unread) else None


def _compare_ratios(gold: Form, answer: Form, asked: Asked) -> Finding:
    """3:4 is 6:8 and 3/4; with two digits of minutes it is a time unless a ratio is asked for."""
    parts = [_ratio_parts(form) for form in (gold, answer)]
    if parts[0] is None or parts[1] is None:
        return Finding(False, f"{_name(answer)} where the gold is {_name(gold)}")
    if len(parts[0]) != len(parts[1]):
        return Finding(False, "another number of parts")
    first, second = parts[0], parts[1]
    crossed = [
        same_number(Call("*", (first[0], two)), Call("*", (second[0], one)))
        for one, two in zip(first[1:], second[1:], strict=True)
    ]
    if isinstance(gold, Clock) and isinstance(answer, Clock) and not asked.about_ratio:
        crossed.append(gold.time == answer.time)
    return _verdict(False if False in crossed else None if None in crossed else True, "ratio")


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


def _compare_based(gold: Form, answer: Form, asked: Asked) -> Finding:
    if isinstance(gold, Based) and isinstance(answer, Based):
        return _verdict(gold == answer, "number in its base")
    based, other = (gold, answer) if isinstance(gold, Based) else (answer, gold)
    assert isinstance(based, Based)
    if isinstance(other, Quantity) and other.unit is None and asked.about_base:
        digits = read_expression(based.digits)
        return _verdict(digits is not None and digits == other.node, "digits in the asked base")
    if isinstance(other, Quantity) and based.base == 10:
        digits = read_expression(based.digits)
        return _verdict(digits is not None and digits == other.node, "number in base 10")
    return Finding(False, "a number in another base")


def _simplest(form: Form) -> Form:
    """A set or list of one value is that value; so is a choice in brackets."""
    if isinstance(form, Listing) and len(form.items) == 1:
        return _simplest(form.items[0])
    if isinstance(form, Listing) and not form.items:
        return Nothing("none")
    return form


def _restates(gold: str, answer: str, form: Form, asked: Asked) -> bool:
    """Whether the answer is an expression with operators copied out of the question."""
    if not asked.text or not isinstance(form, Quantity) or is_plain_number(form.node):
        return False
    question = same_text(tidy(asked.text))
    bare, bare_gold = same_text(answer), same_text(gold)
    if len(bare) < 4 or bare_gold in question or bare not in question:
        return False
    return bool(re.search(r"[-+*/^(]|\\(?:frac|cdot|times|div)", bare))


def _by_other_reading(gold: str, answer: str, asked: Asked) -> Finding | None:
    """The comma as decimal point, and a product of letters that reads like a word."""
    if re.fullmatch(r"-?\d*\.\d+", gold) and answer.replace(",", ".") == gold:
        return Finding(True, "a decimal comma")
    if re.fullmatch(r"-?\d*\.\d+", answer) and gold.replace(",", ".") == answer:
        return Finding(True, "a decimal comma")
    gold_form, form = read_form(gold), read_form(answer)
    for one, other in ((gold_form, form), (form, gold_form)):
        if isinstance(one, Words) and isinstance(other, Quantity) and other.whole is not None:
            if re.fullmatch(r"[a-z]{3}", one.text) and len(names_of(other.whole)) == 3:
                node = read_expression(one.text)
                if node is not None and same_value(node, other.whole):
                    return Finding(True, "equal products")
    return None


def _verdict(is_equal: bool | None, subject: str) -> Finding:
    word = "undecided" if is_equal is None else "same" if is_equal else "different"
    return Finding(is_equal, f"{word} {subject}" if is_equal is not None else f"{subject}: {word}")


def _name(form: Form) -> str:
    names = {
        "Nothing": "no value", "Choice": "an option", "Clock": "a time", "Date": "a date",
        "Ratio": "a ratio", "Chain": "an inequality", "Based": "a number in a base", "Matrix": "a matrix",
        "Group": "a tuple or interval", "Listing": "a list", "Equation": "an equation",
        "Words": "text", "Unread": "an unknown notation", "Quantity": "a value",
        "Region": "a set of numbers",
    }  # fmt: skip
    return names[type(form).__name__]
