from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from r1.evaluation.row_metrics.arena_hard import arena_hard_result


def record(*games: int | None) -> dict[str, Any]:
    parts = {f"game_{i}": float(g) for i, g in enumerate(games, start=1) if g is not None}
    return {"problem_id": "q", "parts": {**parts, "format": 1.0}}


def test_a_hand_made_table() -> None:
    records = [record(2, 1), record(0, -1), record(-2, None), record(None, None)]
    result = arena_hard_result(records)
    # Battles: 3 wins, 1 win, a tie, a loss, 3 losses.
    assert result.num_battles == 9
    assert result.win_rate == pytest.approx(4.5 / 9)
    assert result.num_games_missing == 3
    assert 0 <= result.low <= result.win_rate <= result.high <= 1
    assert result == arena_hard_result(records)
    assert result.low != arena_hard_result(records, seed=1).low


def test_it_is_the_maximum_of_the_bradley_terry_likelihood() -> None:
    """The official fit, on a grid: two ratings, so one difference; a tie is half and half."""
    records = [record(2, 1), record(0, -1), record(1, 1), record(-2, 0)]
    wins, ties, losses = 3 + 1 + 1 + 1, 2, 1 + 3
    ratings = np.linspace(-400, 400, 80_001)
    rates = 1 / (1 + 10 ** (-ratings / 400))
    likelihood = (wins + ties / 2) * np.log(rates) + (losses + ties / 2) * np.log(1 - rates)
    assert arena_hard_result(records).win_rate == pytest.approx(
        rates[likelihood.argmax()], abs=1e-5
    )


def test_a_model_that_always_wins() -> None:
    result = arena_hard_result([record(2, 2)] * 10)
    assert (result.win_rate, result.low, result.high) == (1.0, 1.0, 1.0)


def test_no_verdict_is_no_win_rate() -> None:
    with pytest.raises(ValueError, match="none has a verdict"):
        arena_hard_result([record(None, None)])


def test_the_interval_is_as_wide_as_the_published_ones(shared_dir: Path) -> None:
    """On 500 questions with outcomes that give its score, as every published row has them."""
    with (shared_dir / "data/arena_hard/leaderboard_20240731.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if 20 < float(row["score"]) < 80]
    widths = [float(row["rating_q975"]) - float(row["rating_q025"]) for row in rows]
    draws = np.random.default_rng(0)
    records = [record(*draws.choice([2, 1, 0, -1, -2], size=2)) for _ in range(500)]
    result = arena_hard_result(records)
    width = 100 * (result.high - result.low)
    assert 0.7 * np.mean(widths) < width < 1.3 * np.mean(widths)
