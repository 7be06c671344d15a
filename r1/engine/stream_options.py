"""What a streamed request may ask of the engine beside its sampling settings."""

from __future__ import annotations

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


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """`random_stream` names the random numbers in place of the request's id, so that a seed
    repeats a reply whatever its id. `num_top_logprobs` alternatives come with each token.
    `ends_output` (bool [V]) are tokens behind which an output ends, though more have come.
    """

    constraint: TokenConstraint | None = None
    random_stream: str = ""
    num_top_logprobs: int = 0
    ends_output: np.ndarray | None = None
