"""Length, language, repetition and preference rules, with numbers by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest import approx

from r1.rewards.language import language_reward
from r1.rewards.length import soft_overlong_penalty
from r1.rewards.preference import has_similar_length, mean_preference
from r1.rewards.repetition import repetition_rate


@pytest.mark.parametrize(
    ("num_tokens", "expected"),
    [(0, 0.0), (80, 0.0), (81, -0.05), (90, -0.5), (100, -1.0), (150, -1.0)],
)
def test_soft_overlong_penalty(num_tokens: int, expected: float) -> None:
    penalty = soft_overlong_penalty(num_tokens, max_tokens=100, buffer_tokens=20)
    assert penalty == approx(expected)


@pytest.mark.parametrize("buffer_tokens", [0, -1, 101])
def test_soft_overlong_penalty_refuses_a_buffer_out_of_range(buffer_tokens: int) -> None:
    with pytest.raises(ValueError, match="buffer_tokens"):
        soft_overlong_penalty(1, max_tokens=100, buffer_tokens=buffer_tokens)


def test_language_reward_is_on_the_thought() -> None:
    def half(text: str, language: str) -> float:
        assert (text, language) == ("thought", "zh")
        return 0.5

    assert language_reward("thought", "zh", half) == 0.5
    assert language_reward(None, "zh", half) == 0.0
    assert language_reward(" \n", "zh", half) == 0.0


def test_repetition_rate_by_hand() -> None:
    # 5 words 4 times: 20 units, 11 ten-grams, 5 of them distinct.
    assert repetition_rate("one two three four five " * 4) == approx(1 - 5 / 11)
    # 2 characters 10 times: 11 ten-grams, 2 distinct.
    assert repetition_rate("好的" * 10) == approx(1 - 2 / 11)
    assert repetition_rate("one two three") == 0.0
    assert repetition_rate("") == 0.0
    assert repetition_rate(" ".join(map(str, range(200)))) == 0.0


@pytest.mark.parametrize(
    "loop", ["Wait, let me check again. ", "a", "!", "的", "x = 1\n", "哈哈，"]
)
def test_long_loops_are_near_one(loop: str) -> None:
    assert repetition_rate(loop * (4000 // len(loop))) > 0.9


@given(st.text(max_size=100))
def test_repetition_rate_is_a_share(text: str) -> None:
    assert 0.0 <= repetition_rate(text) <= 1.0


def test_a_judge_that_likes_the_first_place_prefers_nothing() -> None:
    assert mean_preference([2, 2], [2, 2]) == 0.0
    assert mean_preference([2, 1], [-1, 0]) == 1.0
    assert mean_preference([-2, -1], [2, 2]) == -1.75


@pytest.mark.parametrize("scores", [([1], []), ([], []), ([1, 2, 2], [1])])
def test_both_orders_must_be_judged(scores: tuple[list[float], list[float]]) -> None:
    with pytest.raises(ValueError, match="equally often"):
        mean_preference(*scores)


def test_lengths_must_be_similar() -> None:
    assert has_similar_length(100, 200) and has_similar_length(200, 100)
    assert not has_similar_length(100, 201)
    assert not has_similar_length(0, 0)
