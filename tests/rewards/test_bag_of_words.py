from __future__ import annotations

import pytest

from r1.rewards.bag_of_words import best_overlap, normalize_span, overlap


@pytest.mark.parametrize(
    ("answer", "gold", "is_exact", "f1"),
    [
        ("td", "td", True, 1.0),
        ("TD", "td", True, 1.0),
        ("the td", "td", True, 1.0),
        ("td.", "td", True, 1.0),
        # Numbers compare as numbers.
        ("78", "78.0", True, 1.0),
        ("1,000", "1000", True, 1.0),
        ("078", "78", True, 1.0),
        ("$5", "5", True, 1.0),
        ("5%", "5", True, 1.0),
        ("-5", "5", True, 1.0),  # a hyphen divides words, here too
        ("five", "5", False, 0.0),
        # Hyphens divide words.
        ("78-yard", "78 yard", True, 1.0),
        ("12-yard pass", "12 yard", False, 0.8),
        # A gold with numbers needs one of them.
        ("78 yard", "56 yard", False, 0.0),
        ("yard", "56 yard", False, 0.0),
        ("56", "56 yard", False, 0.6667),
        ("56 yard", "yard", False, 0.6667),
        ("tom brady and 12 others", "tom brady", False, 0.5714),
        # Bags are sets: the count of a word does not matter.
        ("go go go", "go", False, 1.0),
        # Nothing left after normalisation.
        ("", "td", False, 0.0),
        ("the", "a", True, 1.0),
        ("td", "the", False, 0.0),
    ],
)
def test_overlaps_by_hand(answer: str, gold: str, is_exact: bool, f1: float) -> None:
    found = overlap(answer, gold)
    assert (found.is_exact, found.f1) == (is_exact, f1)


def test_the_best_gold_counts() -> None:
    found = best_overlap("5 yards", ["6", "5", "5 yards"])
    assert (found.is_exact, found.f1) == (True, 1.0)
    # Exact by one gold, while F1 is best by another: both maxima, as in simple-evals.
    assert best_overlap("go go", ["go", "run"]).f1 == 1.0
    assert best_overlap("x", ["", "  ", "x"]).is_exact
    with pytest.raises(ValueError, match="no gold answer"):
        best_overlap("x", ["", " "])


@pytest.mark.parametrize(
    ("text", "normalized"),
    [
        ("The Quick, brown-fox", "quick brown fox"),
        ("1,234 m", "1234.0 m"),
        ("1,234.50 m", "123450.0 m"),  # the official rule, comma and point taken off
        ("a", ""),
        ("U.S.", "us"),
        ("  two   spaces ", "two spaces"),
        ("3rd", "3rd"),
    ],
)
def test_normalisation(text: str, normalized: str) -> None:
    assert normalize_span(text) == normalized
