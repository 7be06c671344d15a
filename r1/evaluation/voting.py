"""Which answers vote together: equal by the verifier, which knows that 1/2 is 0.5."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import cache

from r1.rewards.math import MathVerifier


@contextlib.contextmanager
def voting_verifier() -> Iterator[Callable[[str, str], bool]]:
    """Whether two answers are equal, each pair looked at once."""
    with MathVerifier(num_workers=1) as verifier:

        @cache
        def is_same(a: str, b: str) -> bool:
            return verifier.verify(a, b).is_correct is True

        yield is_same
