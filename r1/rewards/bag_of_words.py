"""DROP's F1: bags of words of the answer and the gold, aligned one to one.

The rules are those of the official evaluator (allenai/allennlp-reading-comprehension,
drop_eval.py, Apache License 2.0; Dua et al. 2019), which openai/simple-evals uses
too: numbers compare as numbers, articles and punctuation do not count, and a gold with
numbers needs one of them.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

Bag = frozenset[str]

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_TOKEN_BREAK = re.compile(r"[ -]")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True, slots=True)
class Overlap:
    """How an answer agrees with a gold: exactly or not, and F1 in [0, 1]."""

    is_exact: bool
    f1: float


def best_overlap(answer: str | Sequence[str], golds: Sequence[str | Sequence[str]]) -> Overlap:
    """The best exact match and the best F1 over the golds that are not blank.

    An answer and each gold are one span or several. Raises ValueError without a gold.
    """
    overlaps = [
        overlap(answer, gold) for gold in golds if not isinstance(gold, str) or gold.strip()
    ]
    if not overlaps:
        raise ValueError("no gold answer")
    return Overlap(any(each.is_exact for each in overlaps), max(each.f1 for each in overlaps))


def overlap(answer: str | Sequence[str], gold: str | Sequence[str]) -> Overlap:
    """Exact match of the sets of spans, and the mean F1 of the best one-to-one alignment.

    F1 is rounded to four digits, as the official percentages are to two.
    """
    spans, gold_spans = _normalized_spans(answer), _normalized_spans(gold)
    is_exact = set(spans) == set(gold_spans) and len(spans) == len(gold_spans)
    scores = [
        [_f1(frozenset(span.split()), frozenset(gold_span.split())) for span in spans]
        for gold_span in gold_spans
    ]
    mean = _best_alignment(scores) / max(len(spans), len(gold_spans))
    return Overlap(is_exact, round(mean, 4))


def _normalized_spans(answer: str | Sequence[str]) -> list[str]:
    spans = [answer] if isinstance(answer, str) else answer
    return [normalize_span(span) for span in spans]


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


def _best_alignment(scores: Sequence[Sequence[float]]) -> float:
    """The largest sum of scores that pairs each row and column at most once.

    Exact, by the sets of columns that are taken: answers have few spans.
    """
    if len(scores[0]) > len(scores):
        scores = list(zip(*scores, strict=True))
    num_columns = len(scores[0])

    @cache
    def best(row: int, taken: int) -> float:
        if row == len(scores):
            return 0.0
        choices = [best(row + 1, taken)]
        for column in range(num_columns):
            if not taken >> column & 1:
                choices.append(scores[row][column] + best(row + 1, taken | 1 << column))
        return max(choices)

    return best(0, 0)
