from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest import approx

from r1.training.advantages import group_advantages


def test_by_hand() -> None:
    group = group_advantages([1.0, 0.0, 0.0, 0.0])
    assert (group.mean, group.std) == approx((0.25, 3**0.5 / 4))
    assert group.advantages == approx((3**0.5, *[-(3**-0.5)] * 3), rel=1e-5)
    assert group.has_signal


def test_without_the_standard_deviation() -> None:
    group = group_advantages([1.0, 0.0, 2.0], divide_by_std=False)
    assert group.advantages == (0.0, -1.0, 1.0)


def test_an_ungraded_reply_is_left_out_of_the_group() -> None:
    group = group_advantages([1.0, None, 0.0])
    assert group.advantages[1] is None
    assert (group.advantages[0], group.advantages[2]) == approx((1.0, -1.0), rel=1e-5)
    assert (group.mean, group.num_ungraded) == (0.5, 1)


@pytest.mark.parametrize(
    ("rewards", "advantages"),
    [
        ([1.0, 1.0], (0.0, 0.0)),
        ([0.1] * 7, (0.0,) * 7),  # the mean of seven 0.1 is not exactly 0.1
        ([None, 1.0], (None, 0.0)),
        ([None, None], (None, None)),
        ([], ()),
    ],
)
def test_groups_without_signal(rewards: list[float | None], advantages: tuple) -> None:
    group = group_advantages(rewards)
    assert not group.has_signal
    assert group.advantages == advantages


@pytest.mark.parametrize("reward", [float("nan"), float("inf")])
def test_a_reward_that_is_not_finite_is_refused(reward: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        group_advantages([0.0, reward])


@given(st.lists(st.integers(-5, 5).map(float), min_size=2, max_size=20))
def test_advantages_sum_to_zero_with_unit_deviation(rewards: list[float]) -> None:
    group = group_advantages(rewards)
    advantages = [a for a in group.advantages if a is not None]
    assert sum(advantages) == approx(0.0, abs=1e-6)
    if group.has_signal:
        assert sum(a * a for a in advantages) / len(advantages) == approx(1.0, abs=1e-4)
