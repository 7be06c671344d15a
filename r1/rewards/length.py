"""Length rewards: the soft penalty for replies near the token limit."""

from __future__ import annotations


def soft_overlong_penalty(num_tokens: int, *, max_tokens: int, buffer_tokens: int) -> float:
    """DAPO's soft overlong punishment, in [-1, 0] (arXiv 2503.14476, equation 13).

    0 up to `max_tokens - buffer_tokens`, then linear down to -1 at `max_tokens` and beyond.
    Raises ValueError unless 0 < buffer_tokens <= max_tokens.
    """
    if not 0 < buffer_tokens <= max_tokens:
        raise ValueError(
            f"buffer_tokens must be above 0 and at most max_tokens ({max_tokens}),"
            f" not {buffer_tokens}"
        )
    excess = num_tokens - (max_tokens - buffer_tokens)
    return -min(1.0, max(0.0, excess / buffer_tokens)) + 0.0
