"""The language reward: is the thought written in the language that was asked for?"""

from __future__ import annotations

from collections.abc import Callable


def language_reward(
    thought: str | None, language: str, consistency: Callable[[str, str], float]
) -> float:
    """Words of the thought in `language` / words of the thought, in [0, 1] (R1, section 2.3.2).

    `consistency(text, language)` counts (`text.language.language_consistency`). Without
    a thought the reward is 0.0: not thinking is not thinking in the right language.
    """
    if thought is None or not thought.strip():
        return 0.0
    return consistency(thought, language)
