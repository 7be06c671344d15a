"""Group-relative advantages: a reward judged against its own group (GRPO)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class GroupAdvantages:
    """One group's advantages, in the order of its rewards.

    `advantages[i]` is None where the reward was None. A group `has_signal` when
    its graded rewards are not all equal; without signal every advantage is 0.
    """

    advantages: tuple[float | None, ...]
    has_signal: bool
    mean: float
    std: float
    num_ungraded: int


def group_advantages(
    rewards: Sequence[float | None], *, divide_by_std: bool = True, epsilon: float = 1e-6
) -> GroupAdvantages:
    """A_i = (r_i - mean(r)) / std(r) over the group's graded rewards.

    DeepSeekMath (arXiv 2402.03300, 4.1.2), with the population standard deviation.
    `divide_by_std=False` leaves the difference to the mean (Dr. GRPO, 2503.20783).
    Ungraded replies (None) count neither in the mean nor in the deviation. Raises
    ValueError for a reward that is not finite.
    """
    graded = [reward for reward in rewards if reward is not None]
    if not all(math.isfinite(reward) for reward in graded):
        raise ValueError(f"a reward is not finite: {list(rewards)}")
    num_ungraded = len(rewards) - len(graded)
    mean = math.fsum(graded) / len(graded) if graded else 0.0
    # Compared exactly: rounding in the mean must not give equal rewards an advantage.
    if not graded or min(graded) == max(graded):
        zeros = tuple(None if reward is None else 0.0 for reward in rewards)
        return GroupAdvantages(zeros, False, mean, 0.0, num_ungraded)
    std = math.sqrt(math.fsum((reward - mean) ** 2 for reward in graded) / len(graded))
    scale = 1.0 / (std + epsilon) if divide_by_std else 1.0
    advantages = tuple(None if reward is None else (reward - mean) * scale for reward in rewards)
    return GroupAdvantages(advantages, True, mean, std, num_ungraded)
