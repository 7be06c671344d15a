from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytest import approx
from torch import Tensor

from r1.training.losses import (
    PolicyStatistics,
    PolicyTokens,
    kl_k3,
    logprob_gap,
    pointwise_loss,
    policy_loss,
    preference_loss,
    sequence_weights,
    sft_loss,
)


def one_token(ratio: float, advantage: float, **settings: float) -> tuple[Tensor, Tensor, dict]:
    policy = torch.tensor([math.log(ratio)], requires_grad=True)
    tokens = PolicyTokens(torch.zeros(1), torch.tensor([advantage]), torch.ones(1))
    loss, statistics = policy_loss(policy, tokens, **settings)
    loss.backward()
    assert policy.grad is not None
    return loss.detach(), policy.grad, statistics.means()


@pytest.mark.parametrize(
    ("ratio", "advantage", "clip_low", "clip_high", "loss", "has_gradient"),
    [
        (1.0, 1.0, 0.2, 0.2, -1.0, True),
        (1.5, 1.0, 0.2, 0.2, -1.2, False),
        (1.5, 1.0, 0.2, 0.28, -1.28, False),
        (1.25, 1.0, 0.2, 0.28, -1.25, True),
        (0.5, 1.0, 0.2, 0.2, -0.5, True),
        (0.5, -1.0, 0.2, 0.2, 0.8, False),
        (1.5, -1.0, 0.2, 0.2, 1.5, True),
        (9.0, 1.0, 10.0, 10.0, -9.0, True),  # R1 stage 1: epsilon 10
        (12.0, 1.0, 10.0, 10.0, -11.0, False),
        (0.01, -1.0, 10.0, 10.0, 0.01, True),
    ],
)
def test_one_token_of_the_clipped_objective(
    ratio: float, advantage: float, clip_low: float, clip_high: float, loss: float, has_gradient
) -> None:
    value, gradient, means = one_token(ratio, advantage, clip_low=clip_low, clip_high=clip_high)
    assert value == approx(loss, rel=1e-5)
    assert gradient.item() == approx(-ratio * advantage if has_gradient else 0.0, rel=1e-5)
    assert means["clip_fraction"] == (0.0 if has_gradient else 1.0)
    assert means["ratio"] == approx(ratio, rel=1e-5)


def test_a_ratio_that_overflows_stays_finite() -> None:
    tokens = PolicyTokens(
        torch.tensor([-1e4]), torch.zeros(1), torch.ones(1), reference_logprobs_N=torch.zeros(1)
    )
    loss, _ = policy_loss(torch.tensor([-0.5]), tokens, kl_coefficient=0.1)
    assert torch.isfinite(loss)


def test_weights_of_the_three_normalisations_by_hand() -> None:
    lengths = [2, 0, 6]
    assert sequence_weights(lengths, "sequence") == approx([1 / 4, 0, 1 / 12])
    assert sequence_weights(lengths, "token") == approx([1 / 8, 0, 1 / 8])
    assert sequence_weights(lengths, "constant", max_length=10) == approx([1 / 20, 0, 1 / 20])
    assert sequence_weights([], "token") == []
    with pytest.raises(ValueError, match="needs max_length"):
        sequence_weights(lengths, "constant")
    with pytest.raises(ValueError, match='choose "sequence", "token" or "constant"'):
        sequence_weights(lengths, "tokens")  # pyright: ignore[reportArgumentType]


@settings(max_examples=30)
@given(
    lengths=st.lists(st.integers(0, 9), min_size=1, max_size=8),
    normalize_by=st.sampled_from(["sequence", "token", "constant"]),
    cut=st.integers(0, 8),
    num_padding=st.integers(0, 5),
)
def test_the_loss_does_not_depend_on_the_split_or_on_padding(
    lengths: list[int], normalize_by, cut: int, num_padding: int
) -> None:
    generator = torch.Generator().manual_seed(sum(lengths))
    weights = sequence_weights(lengths, normalize_by, max_length=9)
    weights_N = torch.tensor([w for w, n in zip(weights, lengths, strict=True) for _ in range(n)])
    num = sum(lengths)
    policy, old, reference, sampler, advantage = torch.randn(5, num, generator=generator) * 0.3

    def loss_of(chosen: Tensor, padding: int = 0) -> tuple[Tensor, PolicyStatistics]:
        def padded(values: Tensor, value: float) -> Tensor:
            return torch.nn.functional.pad(values[chosen], (0, padding), value=value)

        tokens = PolicyTokens(
            padded(old, -3.0),
            padded(advantage, 2.0),
            padded(weights_N, 0.0),
            padded(reference, 1.0),
            padded(sampler, -1.0),
        )
        return policy_loss(padded(policy, -0.5), tokens, kl_coefficient=0.1, sampler_ratio_cap=2.0)

    everything = torch.arange(num)
    whole, statistics = loss_of(everything)
    first, first_statistics = loss_of(everything[:cut], num_padding)
    second, second_statistics = loss_of(everything[cut:])
    assert (first + second).item() == approx(whole.item(), abs=1e-5)
    assert (first_statistics + second_statistics).means() == approx(statistics.means(), abs=1e-5)


def test_truncated_importance_weight_scales_the_policy_term_only() -> None:
    old = torch.log(torch.tensor([0.9, 0.5]))
    sampler = torch.log(torch.tensor([0.1, 0.625]))
    tokens = PolicyTokens(
        old, torch.tensor([1.0, 1.0]), torch.full((2,), 0.5), old - 1.0, sampler_logprobs_N=sampler
    )
    plain, _ = policy_loss(old, tokens, kl_coefficient=0.3)
    capped, statistics = policy_loss(old, tokens, kl_coefficient=0.3, sampler_ratio_cap=2.0)
    # Weights min(9, 2) = 2 and 0.8 on objectives of 1.
    assert (capped - plain).item() == approx(-(2.0 + 0.8) / 2 + 1.0, abs=1e-6)
    assert statistics.means()["sampler_weight"] == approx(1.4)
    with pytest.raises(ValueError, match="no sampler log-probs"):
        policy_loss(old, PolicyTokens(old, old, old), sampler_ratio_cap=2.0)
    with pytest.raises(ValueError, match="no reference log-probs"):
        policy_loss(old, PolicyTokens(old, old, old), kl_coefficient=0.1)


def test_k3_by_hand_and_unbiased() -> None:
    assert kl_k3(torch.tensor([0.0]), torch.tensor([1.0])).item() == approx(math.e - 2)
    policy, reference = torch.randn(2, 50, generator=torch.Generator().manual_seed(0)).double()
    policy, reference = policy.log_softmax(-1), reference.log_softmax(-1)
    exact = (policy.exp() * (policy - reference)).sum()
    assert (policy.exp() * kl_k3(policy, reference)).sum().item() == approx(exact.item())
    assert (kl_k3(policy, reference) >= 0).all()


def test_logprob_gap_by_hand() -> None:
    gap = logprob_gap(torch.tensor([-1.0, -2.0]), torch.tensor([-1.5, -2.0]))
    assert (gap.mean_abs, gap.max_abs) == (0.25, 0.5)
    assert gap.kl == approx((math.exp(0.5) - 0.5 - 1) / 2)
    assert logprob_gap(torch.zeros(0), torch.zeros(0)).max_abs == 0.0


def test_supervised_and_preference_losses_by_hand() -> None:
    assert sft_loss(torch.tensor([-1.0, -3.0]), 8).item() == approx(0.5)
    chosen, rejected = torch.tensor([2.0, 0.0]), torch.tensor([1.0, 0.0])
    expected = (math.log1p(math.exp(-1)) + math.log(2)) / 2
    assert preference_loss(chosen, rejected, 2).item() == approx(expected)
    scores, labels = torch.tensor([1.0, -2.0]), torch.tensor([1.0, 0.0])
    expected = (math.log1p(math.exp(-1)) + math.log1p(math.exp(-2))) / 2
    assert pointwise_loss(scores, labels, 2).item() == approx(expected)
