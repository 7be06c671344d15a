"""Arena-Hard v0.1's score: the win rate against the baseline, from the records of a run.

The official script (show_result.py of lmarena/arena-hard-auto, v0.1, Apache-2.0) fits
Bradley-Terry ratings to the battles of all models and turns the rating against the
baseline into a win rate. Every battle there is one model against the baseline, so the
fit falls apart by model, and its maximum is the mean score of the model's battles (a tie
is half a win, a strong verdict three battles). That mean is computed here directly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from r1.tasks.judged.pairs import battle_scores

_GAMES = ("game_1", "game_2")
# The official number of rounds, its seed and its two percentiles.
_NUM_ROUNDS, _SEED, _PERCENTILES = 100, 42, (2.5, 97.5)


@dataclass(frozen=True, slots=True)
class ArenaHardResult:
    """The win rate in [0, 1] with its bootstrap interval over battles.

    `num_games_missing` had no verdict and count for nothing, as in the official script.
    """

    win_rate: float
    low: float
    high: float
    num_battles: int
    num_games_missing: int


def arena_hard_result(records: Sequence[Mapping[str, Any]], seed: int = _SEED) -> ArenaHardResult:
    """Compute the score of a run; raises ValueError when no game has a verdict."""
    outcomes = [
        int(record["parts"][game])
        for record in records
        for game in _GAMES
        if game in record["parts"]
    ]
    if not outcomes:
        raise ValueError("Arena-Hard's win rate needs at least one judged game; none has a verdict")
    scores = np.array(battle_scores(outcomes))
    draws = np.random.default_rng(seed).integers(len(scores), size=(_NUM_ROUNDS, len(scores)))
    low, high = np.percentile(scores[draws].mean(axis=1), _PERCENTILES)
    return ArenaHardResult(
        win_rate=float(scores.mean()),
        low=float(low),
        high=float(high),
        num_battles=len(scores),
        num_games_missing=len(_GAMES) * len(records) - len(outcomes),
    )
