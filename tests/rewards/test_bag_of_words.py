from __future__ import annotations

import itertools
import random

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
        # Several spans, aligned one to one.
        ("td", ["td", "td"], False, 0.5),
        (["td", "td"], "td", False, 0.5),
        (["td", "fg"], ["fg", "td"], True, 1.0),
        (["green bay", "dallas"], ["dallas cowboys", "green bay"], False, 0.8333),
        (["a b", "b c"], ["b c", "a b"], True, 1.0),
        (["x"], ["y", "x", "z"], False, 0.3333),
        # Nothing left after normalisation.
        ("", "td", False, 0.0),
        ("the", "a", True, 1.0),
        ("td", "the", False, 0.0),
    ],
)
def test_overlaps_by_hand(
    answer: str | list[str], gold: str | list[str], is_exact: bool, f1: float
) -> None:
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


def test_the_alignment_is_the_best_of_all_permutations() -> None:
    rng = random.Random(0)
    words = ["ab", "cd", "ef", "gh", "1", "2"]

    def spans(count: int) -> list[str]:
        return [" ".join(rng.sample(words, rng.randint(1, 3))) for _ in range(count)]

    for _ in range(40):
        answer, gold = spans(rng.randint(1, 4)), spans(rng.randint(1, 4))
        width = max(len(answer), len(gold))
        padded = gold + [None] * (width - len(gold))
        best = max(
            sum(overlap(a, g).f1 for a, g in zip(answer, order, strict=False) if g is not None)
            for order in itertools.permutations(padded, min(len(answer), width))
        )
        assert overlap(answer, gold).f1 == pytest.approx(best / width, abs=1e-3)
