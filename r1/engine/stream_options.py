"""What a streamed request may ask of the engine beside its sampling settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np


class TokenConstraint(Protocol):
    """Which tokens may come next in one reply: a grammar, a thinking budget, a forced text.

    It is asked before a token once the reply has `next_length` tokens, and reads that anew
    after each answer: 0 is asked for every token. So it may keep what it has read so far.
    """

    @property
    def next_length(self) -> int: ...

    def allowed(self, reply_ids: np.ndarray) -> np.ndarray | None:
        """Bool [V] of the tokens that may follow `reply_ids` (at least one), or None: any.

        Must not raise: an exception would end every request of the engine.
        """
        ...


# Tokens before the new ones that `ends_output` sees too.
NUM_TOKENS_BEFORE = 8


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """`random_stream` names the random numbers in place of the request's id, so that a seed
    repeats a reply whatever its id. `num_top_logprobs` alternatives come with each token.
    `ends_output` says behind which tokens an output ends though more have come: bool [N] of N
    token ids that follow each other, the new ones behind at most NUM_TOKENS_BEFORE others.
    """

    constraint: TokenConstraint | None = None
    random_stream: str = ""
    num_top_logprobs: int = 0
    ends_output: Callable[[np.ndarray], np.ndarray] | None = None
