"""When the output of a program is the expected one, as LiveCodeBench decides it."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

_SHOWN = 60


def output_difference(output: str, expected: str, tolerance: float | None = None) -> str:
    """Why the output is not the expected one; empty when it is.

    Lines are compared without outer white space, and where they differ word by word as
    exact decimal numbers (1.0 is 1), as in `grade_stdio` of LiveCodeBench's
    lcb_runner/evaluation/testing_util.py (MIT). With a `tolerance`, numbers may differ by
    that much, absolutely or relative to the expected one, as in Codeforces's checkers.
    """
    lines, wanted = _lines(output), _lines(expected)
    if len(lines) != len(wanted):
        return f"{len(lines)} lines, expected {len(wanted)}"
    for number, (line, want) in enumerate(zip(lines, wanted, strict=True), start=1):
        if line != want and not _are_equal_numbers(line, want, tolerance):
            return f"line {number} is {_short(line)}, expected {_short(want)}"
    return ""


def value_difference(value: object, expected: object) -> str:
    """Why a returned value is not the expected one; empty when it is.

    As in `grade_call_based` there: a tuple counts as the list, at the top only.
    """
    if isinstance(value, tuple):
        value = list(value)
    return "" if value == expected else f"returned {_short(value)}, expected {_short(expected)}"


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.strip().split("\n")]


def _are_equal_numbers(line: str, want: str, tolerance: float | None) -> bool:
    words, wanted = line.split(), want.split()
    return len(words) == len(wanted) and all(
        _is_number(word, other, tolerance) for word, other in zip(words, wanted, strict=True)
    )


def _is_number(word: str, wanted: str, tolerance: float | None) -> bool:
    # With a tolerance a line may mix words and numbers; without one LiveCodeBench takes
    # lines of numbers only.
    if tolerance is not None and word == wanted:
        return True
    try:
        number, wanted_number = Decimal(word), Decimal(wanted)
        if number == wanted_number:
            return True
    except InvalidOperation:  # no number, or a signalling NaN
        return False
    if tolerance is None or not (number.is_finite() and wanted_number.is_finite()):
        return False
    allowed = Decimal(tolerance) * max(Decimal(1), abs(wanted_number))
    return abs(number - wanted_number) <= allowed


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
