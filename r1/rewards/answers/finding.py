"""What a comparison found, and why."""

from __future__ import annotations

from dataclasses import dataclass

from r1.rewards.answers.forms import (
    Form,
)


@dataclass(frozen=True, slots=True)
class Finding:
    """Equal, not equal, or undecided here (None); and why."""

    is_equal: bool | None
    reason: str


def verdict(is_equal: bool | None, subject: str) -> Finding:
    """A finding about one subject, in words."""
    word = "undecided" if is_equal is None else "same" if is_equal else "different"
    return Finding(is_equal, f"{word} {subject}" if is_equal is not None else f"{subject}: {word}")


def kind_of(form: Form) -> str:
    """What a form is, in words."""
    names = {
        "Nothing": "no value",
        "Choice": "an option",
        "Clock": "a time",
        "Date": "a date",
        "Ratio": "a ratio",
        "Chain": "an inequality",
        "Based": "a number in a base",
        "Matrix": "a matrix",
        "Group": "a tuple or interval",
        "Listing": "a list",
        "Equation": "an equation",
        "Words": "text",
        "Unread": "an unknown notation",
        "Quantity": "a value",
        "Region": "a set of numbers",
    }
    return names[type(form).__name__]
