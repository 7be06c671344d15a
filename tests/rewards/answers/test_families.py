r"""Families of solutions: the same numbers, whatever the integer is called and where it starts."""

from __future__ import annotations

import pytest

from r1.rewards.answers.families import same_family
from r1.rewards.answers.text import tidy

FOUR_ANGLES = (
    r"\frac{\pi}{6}+\pi k, \frac{\pi}{3}+\pi k, \frac{2\pi}{3}+\pi k, \frac{5\pi}{6}+\pi k"
)
SAME = [
    (r"\frac{\pi}{4} + k\pi", r"x = -\frac{3\pi}{4} + n\pi, n \in \mathbb{Z}"),
    (r"\frac{k\pi}{2}", r"k\pi, \frac{\pi}{2} + k\pi"),
    (FOUR_ANGLES, r"x = \pm\frac{\pi}{6} + k\pi \text{ or } x = \pm\frac{\pi}{3} + k\pi"),
    (r"n \equiv 3 \pmod 4", r"n = 4k - 1, k \in \mathbb{Z}"),
    (r"n \equiv 1, 2 \pmod{3}", r"n \equiv \pm 1 \pmod 3"),
    (r"n = 4k + 3", r"n = 4m+3 \text{ for some non-negative integer } m"),
    (r"\{n \in \mathbb{Z} : n \equiv 1 \pmod 3\}", r"n = 3k + 1,\ k \in \mathbb{Z}"),
]
DIFFERENT = [
    (r"\frac{\pi}{4} + k\pi", r"\frac{\pi}{4} + 2n\pi, n \in \mathbb{Z}"),
    (r"\frac{\pi}{4} + k\pi", r"-\frac{\pi}{4} + n\pi, n \in \mathbb{Z}"),
    (FOUR_ANGLES, r"\frac{\pi}{6} + k\pi, \frac{\pi}{3} + k\pi"),
    (r"n \equiv 3 \pmod 4", r"n \equiv 3 \pmod 8"),
    (r"4k + 3, k \in \mathbb{N}", r"4k - 1, k \in \mathbb{N}"),
    (r"x = k\pi, k \in \mathbb{Z}", r"y = k\pi, k \in \mathbb{Z}"),
]
NO_FAMILIES = [
    (r"f(n) = 2n", r"f(n) = 2n + 2, n \in \mathbb{Z}"),  # functions of n
    ("4k + 3", "4m + 3"),  # nobody says that these are integers
    (r"\frac{\pi}{3}", r"\frac{\pi}{3} + 2k\pi"),
    ("5", "yes"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_equal_families_either_way_round(one: str, other: str) -> None:
    assert same_family(tidy(one), tidy(other)) is True
    assert same_family(tidy(other), tidy(one)) is True


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_other_families_either_way_round(one: str, other: str) -> None:
    assert same_family(tidy(one), tidy(other)) is False
    assert same_family(tidy(other), tidy(one)) is False


@pytest.mark.parametrize(("one", "other"), NO_FAMILIES)
def test_what_is_no_family_is_left_to_others(one: str, other: str) -> None:
    assert same_family(tidy(one), tidy(other)) is None
