"""The rules of preference data for reward models (R1 v2, supplement on reward models).

A pair of responses is judged four times, the order of showing swapped for half of
them, so that a judge's liking for the first place cancels; it is kept where the mean
score differs by more than 1 and the lengths are similar, so that length is not what
the reward model learns.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

NUM_JUDGEMENTS = 4
MIN_SCORE_DIFFERENCE = 1.0
# The paper says "similar length" only; the ratio is ours (inferred).
MAX_LENGTH_RATIO = 2.0


def mean_preference(first_shown: Sequence[float], second_shown: Sequence[float]) -> float:
    """Mean score of a response over the other one of its pair.

    Both hold the judge's score of the response shown *first* over that shown second:
    `first_shown` where the response stood first, `second_shown` where it stood second.
    Raises ValueError unless both orders were judged equally often.
    """
    if not first_shown or len(first_shown) != len(second_shown):
        counts = f"{len(first_shown)} and {len(second_shown)}"
        raise ValueError(f"both orders must be judged equally often, not {counts} times")
    return fmean([*first_shown, *(-score for score in second_shown)])


def has_similar_length(
    first_length: int, second_length: int, max_ratio: float = MAX_LENGTH_RATIO
) -> bool:
    """Whether the longer is at most `max_ratio` times the shorter; an empty one never is."""
    shorter, longer = sorted((first_length, second_length))
    return shorter > 0 and longer <= max_ratio * shorter
