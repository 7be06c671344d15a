"""The rules of preference data for reward models (R1 v2, supplement on reward models).

A pair of responses is judged four times, the order of showing swapped for half of
them, so that a judge's liking for the first place cancels; it is kept where the mean
scores differ by more than 1 and the lengths are similar, so that length is not what
the reward model learns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

NUM_JUDGEMENTS = 4
MIN_SCORE_DIFFERENCE = 1.0
# The paper says "similar length" only; the ratio is ours (inferred).
MAX_LENGTH_RATIO = 2.0


@dataclass(frozen=True, slots=True)
class Judgement:
    """One judging of responses A and B: scores in the order in which they were shown."""

    first_score: float
    second_score: float
    is_swapped: bool

    @property
    def difference(self) -> float:
        """Score of A less score of B."""
        difference = self.first_score - self.second_score
        return -difference if self.is_swapped else difference


def showing_orders(num_judgements: int = NUM_JUDGEMENTS) -> tuple[bool, ...]:
    """`is_swapped` of each judgement: every other one, so that both orders are equally many."""
    if num_judgements < 2 or num_judgements % 2:
        raise ValueError(f"num_judgements must be even and 2 or more, not {num_judgements}")
    return (False, True) * (num_judgements // 2)


def preferred_response(
    judgements: Sequence[Judgement], min_difference: float = MIN_SCORE_DIFFERENCE
) -> Literal["a", "b"] | None:
    """Which response the judgements prefer, or None where they differ too little.

    Raises ValueError unless both orders were judged equally often.
    """
    num_swapped = sum(judgement.is_swapped for judgement in judgements)
    if not judgements or 2 * num_swapped != len(judgements):
        raise ValueError(
            f"half of the judgements must be swapped: {num_swapped} of {len(judgements)} are"
        )
    difference = fmean(judgement.difference for judgement in judgements)
    if abs(difference) <= min_difference:
        return None
    return "a" if difference > 0 else "b"


def has_similar_length(
    first_length: int, second_length: int, max_ratio: float = MAX_LENGTH_RATIO
) -> bool:
    """Whether the longer is at most `max_ratio` times the shorter; an empty one never is."""
    shorter, longer = sorted((first_length, second_length))
    return shorter > 0 and longer <= max_ratio * shorter


def choose_response(
    judgements: Sequence[Judgement], lengths: tuple[int, int]
) -> Literal["a", "b"] | None:
    """The preferred response of a pair that passes both filters, else None."""
    return preferred_response(judgements) if has_similar_length(*lengths) else None
