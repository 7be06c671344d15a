"""DROP's F1: the words that answer and gold share, each counted once.

The rules are those of the official evaluator (allenai/allennlp-reading-comprehension,
drop_eval.py, Apache License 2.0; Dua et al. 2019), which openai/simple-evals uses
too: numbers compare as numbers, articles and punctuation do not count, and a gold with
numbers needs one of them. As in the latter, an answer is one span, and so is each gold.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from dataclasses import dataclass

Bag = frozenset[str]

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_TOKEN_BREAK = re.compile(r"[ -]")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True, slots=True)
class Overlap:
    """How an answer agrees with a gold: exactly or not, and F1 in [0, 1]."""

    is_exact: bool
    f1: float


def best_overlap(answer: str, golds: Sequence[str]) -> Overlap:
    """The best exact match and the best F1 over the golds that are not blank.

    Raises ValueError without a gold.
    """
    overlaps = [overlap(answer, gold) for gold in golds if gold.strip()]
    if not overlaps:
        raise ValueError("no gold answer")
    return Overlap(any(each.is_exact for each in overlaps), max(each.f1 for each in overlaps))


def overlap(answer: str, gold: str) -> Overlap:
    """Exact match of the texts, and F1 of their bags of words.

    F1 is rounded to four digits, as the official percentages are to two.
    """
    text, gold_text = normalize_span(answer), normalize_span(gold)
    f1 = _f1(frozenset(text.split()), frozenset(gold_text.split()))
    return Overlap(text == gold_text, round(f1, 4))


def normalize_span(text: str) -> str:
    """Lower case, without punctuation and articles, numbers as floats: "1,000 m" is "1000.0 m"."""
    words = []
    for token in _TOKEN_BREAK.split(text.lower()):
        token = token if _is_number(token) else token.translate(_NO_PUNCTUATION)
        token = str(float(token)) if _is_number(token) else token
        words += _ARTICLES.sub(" ", token).split()
    return " ".join(words)


def _f1(bag: Bag, gold: Bag) -> float:
    numbers = {word for word in gold if _is_number(word)}
    if numbers and not numbers & {word for word in bag if _is_number(word)}:
        return 0.0
    num_shared = len(bag & gold)
    precision = num_shared / len(bag) if bag else 1.0
    recall = num_shared / len(gold) if gold else 1.0
    if precision == recall == 0.0:
        return 0.0
    return 2 * precision * recall / (precision + recall)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
