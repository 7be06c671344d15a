"""Comparing several values: lists, sets, tuples, matrices, and sets of reals.

`compare` compares two members; it is `check.compare`, which calls this file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from r1.rewards.answers.finding import Finding, kind_of, verdict
from r1.rewards.answers.forms import Equation, Form, Group, Listing, Matrix, Quantity, Region
from r1.rewards.answers.nodes import Node
from r1.rewards.answers.question import Asked
from r1.rewards.answers.regions import Span, same_region
from r1.rewards.answers.scalars import same_node

Compare = Callable[[Form, Form, Asked], Finding]
_MAX_PERMUTED = 40


def compare_lists(gold: Form, answer: Form, asked: Asked, compare: Compare) -> Finding:
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
    are_several = all(isinstance(form, Listing | Group) for form in (gold, answer))
    has_set = any(isinstance(form, Listing) and form.is_set for form in (gold, answer))
    if has_set and not are_several:
        return Finding(False, f"{kind_of(answer)} where the gold is {kind_of(gold)}")
    labelled = _labelled(gold_items), _labelled(items)
    if labelled[0] and labelled[1]:
        return _compare_labelled(labelled[0], labelled[1], asked, compare)
    for mapping, form in ((labelled[0], answer), (labelled[1], gold)):
        if mapping and isinstance(form, Listing) and form.label is not None:
            return Finding(False, "values of one variable against those of several")
    gold_items, items = _values(gold_items), _values(items)
    if isinstance(gold, Listing) and len(gold_items) > 1:
        alternatives = [
            compare(item, answer, asked) for item in _accepted(gold, gold_items, asked, compare)
        ]
        if any(finding.is_equal for finding in alternatives):
            return Finding(True, "one of the accepted values")
    has_order = isinstance(gold, Group) or isinstance(answer, Group) or asked.in_order
    has_order = has_order or bool(labelled[0]) or bool(labelled[1])
    if len(gold_items) != len(items):
        deduplicated = _distinct(gold_items, asked, compare), _distinct(items, asked, compare)
        if has_order or len(deduplicated[0]) != len(deduplicated[1]):
            return Finding(False, f"{len(items)} values where the gold has {len(gold_items)}")
        gold_items, items = deduplicated
    if has_order and not asked.order_free:
        return _all_equal(gold_items, items, asked, compare)
    return _matched(gold_items, items, asked, compare)


def _accepted(
    gold: Listing, items: Sequence[Form], asked: Asked, compare: Compare
) -> Sequence[Form]:
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
    labels = {item.label: item.value for item in items if isinstance(item, Equation) and item.label}
    return labels if len(labels) == len(items) and len(items) > 1 else {}


def _values(items: Sequence[Form]) -> tuple[Form, ...]:
    """Without labels, when every item has one."""
    if all(isinstance(item, Equation) and item.label for item in items):
        return tuple(item.value for item in items if isinstance(item, Equation))
    return tuple(items)


def _compare_labelled(
    gold: dict[str, Form], answer: dict[str, Form], asked: Asked, compare: Compare
) -> Finding:
    if set(gold) != set(answer):
        return Finding(False, "values of other variables")
    values = [answer[label] for label in gold]
    return _all_equal(list(gold.values()), values, asked, compare)


def _all_equal(
    gold: Sequence[Form], answer: Sequence[Form], asked: Asked, compare: Compare
) -> Finding:
    findings = [compare(one, other, asked) for one, other in zip(gold, answer, strict=True)]
    for index, finding in enumerate(findings, start=1):
        if finding.is_equal is False:
            return Finding(False, f"part {index}: {finding.reason}")
    if any(finding.is_equal is None for finding in findings):
        return Finding(None, "a part that only algebra decides")
    return Finding(True, "equal parts")


def _matched(
    gold: Sequence[Form], answer: Sequence[Form], asked: Asked, compare: Compare
) -> Finding:
    """Every gold value has its own equal value in the answer, in any order."""
    if len(gold) > _MAX_PERMUTED:
        return _all_equal(gold, answer, asked, compare)
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


def _distinct(items: Sequence[Form], asked: Asked, compare: Compare) -> list[Form]:
    kept: list[Form] = []
    for item in items[:_MAX_PERMUTED]:
        if not any(compare(other, item, asked).is_equal for other in kept):
            kept.append(item)
    return kept


def compare_groups(gold: Form, answer: Form, asked: Asked, compare: Compare) -> Finding:
    """Tuples, vectors and matrices; a region where a bracket turns out to be an interval."""
    if isinstance(gold, Region) or isinstance(answer, Region):
        regions = _as_region(gold), _as_region(answer)
        if regions[0] is None or regions[1] is None:
            return Finding(False, f"{kind_of(answer)} where the gold is {kind_of(gold)}")
        return compare_regions(regions[0], regions[1])
    if isinstance(gold, Matrix) or isinstance(answer, Matrix):
        return _compare_matrices(gold, answer, asked)
    if not (isinstance(gold, Group) and isinstance(answer, Group)):
        return Finding(False, f"{kind_of(answer)} where the gold is {kind_of(gold)}")
    if len(gold.items) != len(answer.items):
        return Finding(False, f"{len(answer.items)} parts where the gold has {len(gold.items)}")
    is_interval = len(gold.items) == 2
    if (
        gold.brackets != answer.brackets
        and is_interval
        and "<>" not in (gold.brackets, answer.brackets)
    ):
        return Finding(False, "open and closed ends differ")
    if asked.order_free:
        return _matched(gold.items, answer.items, asked, compare)
    return _all_equal(gold.items, answer.items, asked, compare)


def _compare_matrices(gold: Form, answer: Form, asked: Asked) -> Finding:
    rows, other_rows = _rows(gold), _rows(answer)
    if rows is None or other_rows is None:
        return Finding(False, f"{kind_of(answer)} where the gold is {kind_of(gold)}")
    if not (isinstance(gold, Matrix) and isinstance(answer, Matrix)) and len(rows) == 1 != len(
        other_rows
    ):
        rows = tuple(zip(*rows, strict=True))
    if not (isinstance(gold, Matrix) and isinstance(answer, Matrix)) and len(
        other_rows
    ) == 1 != len(rows):
        other_rows = tuple(zip(*other_rows, strict=True))
    if (len(rows), len(rows[0])) != (len(other_rows), len(other_rows[0])):
        return Finding(False, "another shape")
    verdicts = [
        same_node(one, other, asked)
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


def compare_regions(gold: Form, answer: Form) -> Finding:
    if not (isinstance(gold, Region) and isinstance(answer, Region)):
        return Finding(False, f"{kind_of(answer)} where the gold is {kind_of(gold)}")
    return verdict(same_region(gold, answer), "set of numbers")


def as_points(form: Form, other: Form) -> Form:
    """A region of single points as the list that it is compared with."""
    if not (isinstance(form, Region) and isinstance(other, Listing)):
        return form
    if any(span.low != span.high for span in form.spans):
        return form
    return Listing(tuple(Quantity(span.low) for span in form.spans), is_set=True)
