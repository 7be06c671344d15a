"""The objectives: clipped policy gradient, supervised, and preference losses.

Every loss here is a sum over the tokens (or pairs) that it is given, each with
a weight that was fixed for the whole batch beforehand. Micro-batches therefore
add up to the same loss and the same gradient however the batch is split, packed
or padded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

NormalizeBy = Literal["sequence", "token", "constant"]

# exp() of a log-ratio beyond this says only "far apart"; bounding it keeps fp32 finite.
_MAX_LOG_RATIO = 20.0


def sequence_weights(
    lengths: Sequence[int], normalize_by: NormalizeBy, *, max_length: int | None = None
) -> list[float]:
    """The weight of each token of each response, one number a response.

    `lengths` are the response lengths |o_i| in tokens of the whole batch; a
    response of length 0 is left out of the batch and weighs 0 (so mask a response
    by giving 0). With G responses left:

    - "sequence": 1 / (G |o_i|), the mean over responses of their token means
      (DeepSeekMath, arXiv 2402.03300, equation 3);
    - "token": 1 / sum |o_i|, the mean over all tokens (DAPO, 2503.14476);
    - "constant": 1 / (G max_length), no length bias (Dr. GRPO, 2503.20783).

    Raises ValueError for an unknown name and for "constant" without `max_length`.
    """
    num_responses = max(sum(length > 0 for length in lengths), 1)
    if normalize_by == "sequence":
        return [1.0 / (num_responses * length) if length else 0.0 for length in lengths]
    if normalize_by == "token":
        weight = 1.0 / max(sum(lengths), 1)
    elif normalize_by == "constant":
        if not max_length:
            raise ValueError('normalize_by = "constant" needs max_length, the longest response')
        weight = 1.0 / (num_responses * max_length)
    else:
        raise ValueError(
            f'unknown normalize_by "{normalize_by}"; choose "sequence", "token" or "constant"'
        )
    return [weight if length else 0.0 for length in lengths]


@dataclass(frozen=True)
class PolicyTokens:
    """What the policy loss needs to know of a micro-batch's N response tokens, each [N].

    `old_logprobs_N` are the trainer's, under the weights that sampled;
    `sampler_logprobs_N` are the sampler's own for the same tokens. `weights_N`
    comes from `sequence_weights`, spread over tokens.
    """

    old_logprobs_N: Tensor
    advantages_N: Tensor
    weights_N: Tensor
    reference_logprobs_N: Tensor | None = None
    sampler_logprobs_N: Tensor | None = None


@dataclass(frozen=True)
class PolicyStatistics:
    """Sums over tokens; add those of the micro-batches, then read `means()`."""

    num_tokens: int = 0
    clipped_low: float = 0.0
    clipped_high: float = 0.0
    ratio: float = 0.0
    policy_kl: float = 0.0
    reference_kl: float = 0.0
    sampler_weight: float = 0.0

    def __add__(self, other: PolicyStatistics) -> PolicyStatistics:
        names = [field.name for field in fields(self)]
        return PolicyStatistics(**{n: getattr(self, n) + getattr(other, n) for n in names})

    def means(self) -> dict[str, float]:
        """Token means: `clip_fraction` (and its two sides), `ratio`, `policy_kl` to the
        sampling weights, `reference_kl`, and `sampler_weight`, the mean truncated
        importance weight. All are 0 when there was no token."""
        num = max(self.num_tokens, 1)
        return {
            "clip_fraction": (self.clipped_low + self.clipped_high) / num,
            "clip_fraction_low": self.clipped_low / num,
            "clip_fraction_high": self.clipped_high / num,
            "ratio": self.ratio / num,
            "policy_kl": self.policy_kl / num,
            "reference_kl": self.reference_kl / num,
            "sampler_weight": self.sampler_weight / num,
        }


def policy_loss(
    policy_logprobs_N: Tensor,
    tokens: PolicyTokens,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    kl_coefficient: float = 0.0,
    sampler_ratio_cap: float | None = None,
) -> tuple[Tensor, PolicyStatistics]:
    """Clipped policy-gradient loss with the KL to the reference in the loss (GRPO).

    Per token: -min(ratio A, clip(ratio, 1 - clip_low, 1 + clip_high) A) + beta k3,
    summed with the tokens' weights. `clip_high` above `clip_low` is DAPO's
    clip-higher; R1's stage 1 used epsilon 10 on both sides. `sampler_ratio_cap`
    multiplies the gradient term by min(old / sampler, cap): truncated importance
    sampling for a sampler that differs from the trainer (Yao et al. 2025).

    Returns the scalar loss and token sums of the statistics. Raises ValueError
    when a coefficient needs log-probs that `tokens` does not carry.
    """
    log_ratio_N = policy_logprobs_N - tokens.old_logprobs_N
    ratio_N = log_ratio_N.clamp(-_MAX_LOG_RATIO, _MAX_LOG_RATIO).exp()
    advantages_N = tokens.advantages_N
    clipped_ratio_N = ratio_N.clamp(1.0 - clip_low, 1.0 + clip_high)
    objective_N = torch.minimum(ratio_N * advantages_N, clipped_ratio_N * advantages_N)

    sampler_weight_N = torch.ones_like(ratio_N)
    if sampler_ratio_cap is not None:
        sampler_weight_N = _truncated_weights(tokens, sampler_ratio_cap)
        objective_N = objective_N * sampler_weight_N
    loss_N = -objective_N

    reference_kl_N = torch.zeros_like(ratio_N)
    if tokens.reference_logprobs_N is not None:
        reference_kl_N = kl_k3(policy_logprobs_N, tokens.reference_logprobs_N)
        loss_N = loss_N + kl_coefficient * reference_kl_N
    elif kl_coefficient:
        raise ValueError("kl_coefficient is not 0, but there are no reference log-probs")

    with torch.no_grad():
        weighted = tokens.weights_N > 0
        pushes_up = advantages_N > 0
        # Clipped = the minimum took the clipped side, so this token gives no gradient.
        clipped_high = (ratio_N > 1.0 + clip_high) & pushes_up
        clipped_low = (ratio_N < 1.0 - clip_low) & (advantages_N < 0)
        columns = (
            weighted,
            clipped_low & weighted,
            clipped_high & weighted,
            ratio_N * weighted,
            kl_k3(tokens.old_logprobs_N, policy_logprobs_N) * weighted,
            reference_kl_N * weighted,
            sampler_weight_N * weighted,
        )
        sums = torch.stack([column.sum(dtype=torch.float64) for column in columns]).tolist()
    statistics = PolicyStatistics(int(sums[0]), *sums[1:])
    return (loss_N * tokens.weights_N).sum(), statistics


def _truncated_weights(tokens: PolicyTokens, cap: float) -> Tensor:
    if tokens.sampler_logprobs_N is None:
        raise ValueError("sampler_ratio_cap is set, but there are no sampler log-probs")
    with torch.no_grad():
        return (tokens.old_logprobs_N - tokens.sampler_logprobs_N).exp().clamp(max=cap)


def kl_k3(policy_logprobs_N: Tensor, reference_logprobs_N: Tensor) -> Tensor:
    """Per-token estimate of KL(policy, reference) at tokens drawn from the policy.

    k3 = ref/pi - log(ref/pi) - 1: unbiased and never negative (Schulman 2020,
    "Approximating KL divergence"; DeepSeekMath equation 4). Shapes alike.
    """
    log_ratio_N = (reference_logprobs_N - policy_logprobs_N).clamp(-_MAX_LOG_RATIO, _MAX_LOG_RATIO)
    return torch.expm1(log_ratio_N) - log_ratio_N


@dataclass(frozen=True)
class LogprobGap:
    """How far two implementations are apart on the same tokens of the same weights."""

    mean_abs: float
    max_abs: float
    kl: float


def logprob_gap(trainer_logprobs_N: Tensor, sampler_logprobs_N: Tensor) -> LogprobGap:
    """The sampler-trainer gap over N tokens: mean and largest |difference|, and the k3
    estimate of KL(sampler, trainer). All are 0 for no tokens."""
    if trainer_logprobs_N.numel() == 0:
        return LogprobGap(0.0, 0.0, 0.0)
    trainer_N, sampler_N = trainer_logprobs_N.double(), sampler_logprobs_N.double()
    difference_N = (trainer_N - sampler_N).abs()
    kl = kl_k3(sampler_N, trainer_N).mean()
    return LogprobGap(difference_N.mean().item(), difference_N.max().item(), kl.item())


def sft_loss(target_logprobs_N: Tensor, num_batch_tokens: int) -> Tensor:
    """Negative log-likelihood, averaged over the target tokens of the whole batch.

    `num_batch_tokens` counts the batch's targets, not only this micro-batch's N.
    """
    return -target_logprobs_N.sum() / max(num_batch_tokens, 1)


def preference_loss(chosen_scores_B: Tensor, rejected_scores_B: Tensor, num_pairs: int) -> Tensor:
    """Bradley-Terry: -log sigmoid(chosen - rejected), over the batch's `num_pairs` pairs."""
    return -F.logsigmoid(chosen_scores_B - rejected_scores_B).sum() / max(num_pairs, 1)


def pointwise_loss(scores_B: Tensor, labels_B: Tensor, num_rows: int) -> Tensor:
    """Binary cross-entropy of scores (log-odds) and labels in [0, 1], over `num_rows` rows."""
    loss = F.binary_cross_entropy_with_logits(scores_B, labels_B, reduction="sum")
    return loss / max(num_rows, 1)
