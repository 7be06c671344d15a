"""Endless repetition: the tokens of a reply that go round in a circle."""

from __future__ import annotations

import numpy as np

# Longest circle that is looked for, and how often it must have gone round.
MAX_PERIOD = 512
MIN_ROUNDS = 4


def loop_period(token_ids: np.ndarray, min_tokens: int) -> int | None:
    """The period of the circle in which the last tokens go, or None.

    The circle must fill the last `min_tokens` tokens and have gone round at least four
    times. Exact repetition only: a list that counts up is none.
    """
    num_tokens = len(token_ids)
    longest = min(MAX_PERIOD, num_tokens // MIN_ROUNDS)
    if min_tokens < 1 or num_tokens < min_tokens or longest < 1:
        return None
    last = token_ids[-1]
    before = token_ids[num_tokens - 1 - longest : num_tokens - 1][::-1]
    for period in (np.flatnonzero(before == last) + 1).tolist():
        span = max(min_tokens, MIN_ROUNDS * period)
        if span > num_tokens:
            return None
        tail = token_ids[num_tokens - span :]
        if np.array_equal(tail[period:], tail[:-period]):
            return period
    return None
