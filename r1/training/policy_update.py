"""One GRPO update: pack the graded replies, forward, clipped loss, backward, step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from r1.training.expert_balance import (
    ExpertBalance,
    ExpertConfig,
    RoutedExperts,
    can_share_prompts,
)
from r1.training.logprobs import token_logprobs, token_loss
from r1.training.losses import (
    LogprobGap,
    PolicyStatistics,
    PolicyTokens,
    logprob_gap,
    policy_loss,
    sequence_weights,
)
from r1.training.optimizer import NonFiniteError, Optimizer, learning_rate_at
from r1.training.packing import PackedTargets, TokenSequence, pack_targets
from r1.training.shared_prompts import pack_replies

if TYPE_CHECKING:
    from r1.models.language_model import LanguageModel
    from r1.records import Rollout
    from r1.training.grpo_config import GrpoConfig


@dataclass(frozen=True)
class PolicyBatch:
    """Graded replies ready for training; entry i of every list belongs to reply i.

    Log-probs are one tensor a reply, one number a reply token. `old_logprobs` None:
    the policy has not changed since it sampled, so its own are the old ones.
    A masked reply counts in no loss and in no normaliser. With `routed_experts` the
    trainer repeats the sampler's routing.
    """

    sequences: tuple[TokenSequence, ...]
    advantages: tuple[float, ...]
    is_masked: tuple[bool, ...]
    sampler_logprobs: tuple[Tensor, ...]
    old_logprobs: tuple[Tensor, ...] | None = None
    reference_logprobs: tuple[Tensor, ...] | None = None
    routed_experts: tuple[NDArray[np.int16], ...] | None = None

    @classmethod
    def from_rollouts(cls, rollouts: Sequence[Rollout], *, mask_overlong: bool) -> PolicyBatch:
        """Take the rollouts that have an advantage."""
        kept = [r for r in rollouts if r.advantage is not None]
        samples = [r.sample for r in kept]
        routed = tuple(s.routed_experts for s in samples if s.routed_experts is not None)
        return cls(
            sequences=tuple(TokenSequence.of(s.prompt_ids, s.token_ids) for s in samples),
            advantages=tuple(r.advantage for r in kept if r.advantage is not None),
            is_masked=tuple(mask_overlong and s.finish_reason == "length" for s in samples),
            sampler_logprobs=tuple(
                torch.from_numpy(np.array(s.sampler_logprobs, dtype=np.float32)) for s in samples
            ),
            routed_experts=routed if routed and len(routed) == len(samples) else None,
        )

    def __len__(self) -> int:
        return len(self.sequences)

    def select(self, indices: Sequence[int]) -> PolicyBatch:
        """The batch of these replies, in this order."""
        chosen = {
            name: None if values is None else tuple(values[i] for i in indices)
            for name, values in vars(self).items()
        }
        return replace(self, **chosen)

    def as_json(self) -> dict[str, Any]:
        """Everything in plain lists, for the file that explains a failed step."""
        return {
            "token_ids": [s.token_ids.tolist() for s in self.sequences],
            "num_targets": [s.num_targets for s in self.sequences],
            "advantages": list(self.advantages),
            "is_masked": list(self.is_masked),
            "sampler_logprobs": [t.tolist() for t in self.sampler_logprobs],
            "old_logprobs": [t.tolist() for t in self.old_logprobs or ()],
            "reference_logprobs": [t.tolist() for t in self.reference_logprobs or ()],
        }


@dataclass(frozen=True)
class UpdateResult:
    """What an update did and measured, over the tokens of its replies."""

    grad_norm: float
    learning_rate: float
    entropy: float
    gap: LogprobGap
    statistics: PolicyStatistics
    num_tokens: int
    experts: Mapping[str, float] = field(default_factory=dict)
    """Of a mixture of experts, what `ExpertBalance.after_step` returns."""

    def metrics(self) -> dict[str, float]:
        means = self.statistics.means()
        return {
            "entropy": self.entropy,
            "kl_to_reference": means["reference_kl"],
            "policy_kl": means["policy_kl"],
            "clip_fraction": means["clip_fraction"],
            "clip_fraction_low": means["clip_fraction_low"],
            "clip_fraction_high": means["clip_fraction_high"],
            "sampler_weight": means["sampler_weight"],
            "logprob_gap_mean_abs": self.gap.mean_abs,
            "logprob_gap_max_abs": self.gap.max_abs,
            "logprob_gap_kl": self.gap.kl,
            "grad_norm": self.grad_norm,
            "learning_rate": self.learning_rate,
            **self.experts,
        }


@torch.no_grad()
def reply_logprobs(
    model: LanguageModel,
    sequences: Sequence[TokenSequence],
    config: GrpoConfig,
    routed_experts: RoutedExperts | None = None,
) -> tuple[Tensor, ...]:
    """Log-probs of each reply's tokens under `model` at the rollouts' temperature."""
    logprobs: dict[int, Tensor] = {}
    balance = ExpertBalance(model, ExpertConfig())
    for row in _pack(model, sequences, config):
        hidden_BTD, _ = balance.forward(
            row, num_sequences=0, num_targets=0, routed_experts=routed_experts
        )
        hidden_PD = row.at_targets(hidden_BTD)
        logprobs_P = token_logprobs(model, hidden_PD, row.targets_P, temperature=config.temperature)
        logprobs |= row.split(logprobs_P)
    nothing = torch.empty(0)
    return tuple(logprobs.get(index, nothing) for index in range(len(sequences)))


def update_policy(
    model: LanguageModel,
    optimizer: Optimizer,
    batch: PolicyBatch,
    config: GrpoConfig,
    *,
    max_tokens: int,
) -> UpdateResult:
    """One optimizer step on the batch; its loss does not depend on micro-batches.

    Replies that cannot move the policy (no advantage and no KL, or masked) are only
    measured, without a backward pass. Raises NonFiniteError with no weight changed.
    """
    lengths = [
        0 if masked else sequence.num_targets
        for sequence, masked in zip(batch.sequences, batch.is_masked, strict=True)
    ]
    weights = sequence_weights(lengths, config.normalize_by, max_length=max_tokens)
    is_trained = [
        weight > 0 and (advantage != 0 or config.kl_coefficient > 0)
        for weight, advantage in zip(weights, batch.advantages, strict=True)
    ]
    balance = ExpertBalance(model, config.experts)
    rows = []
    for is_chosen in (True, False):
        chosen = [i for i, trained in enumerate(is_trained) if trained == is_chosen]
        part = batch.select(chosen)
        part_weights = [weights[i] for i in chosen]
        for row in _pack(model, part.sequences, config):
            with torch.set_grad_enabled(is_chosen):
                measured = _forward_row(balance, row, part, part_weights, config)
            if is_chosen:
                optimizer.backward(measured.loss)
            rows.append(measured)
    if any(is_trained):
        result = optimizer.step()
        grad_norm, learning_rate = result.grad_norm, result.learning_rate
    else:
        grad_norm = 0.0
        learning_rate = learning_rate_at(config, optimizer.num_steps, optimizer.total_steps)
    return replace(_result(rows, grad_norm, learning_rate), experts=balance.after_step())


@dataclass(frozen=True)
class _Row:
    """One forward pass, measured."""

    loss: Tensor
    statistics: PolicyStatistics
    entropy_P: Tensor
    old_logprobs_P: Tensor
    sampler_logprobs_P: Tensor


def _forward_row(
    balance: ExpertBalance,
    row: PackedTargets,
    batch: PolicyBatch,
    weights: Sequence[float],
    config: GrpoConfig,
) -> _Row:
    # A reply without weight is no sequence of the batch's losses.
    hidden_BTD, added_loss = balance.forward(
        row,
        num_sequences=sum(weight > 0 for weight in weights),
        num_targets=row.targets_P.numel(),
        routed_experts=batch.routed_experts,
    )
    advantages_P, weights_P = row.spread(batch.advantages), row.spread(weights)
    sampler_P = row.gather(batch.sampler_logprobs)
    old_P = None if batch.old_logprobs is None else row.gather(batch.old_logprobs)
    reference = batch.reference_logprobs
    reference_P = None if reference is None else row.gather(reference)
    statistics: list[PolicyStatistics] = []

    def loss_of(logprobs: Tensor, chosen: slice) -> Tensor:
        tokens = PolicyTokens(
            # An unchanged policy is its own old one: the ratio is 1, its gradient the score's.
            old_logprobs_N=logprobs.detach() if old_P is None else old_P[chosen],
            advantages_N=advantages_P[chosen],
            weights_N=weights_P[chosen],
            reference_logprobs_N=None if reference_P is None else reference_P[chosen],
            sampler_logprobs_N=sampler_P[chosen],
        )
        loss, sums = policy_loss(
            logprobs,
            tokens,
            clip_low=config.clip_low,
            clip_high=config.clip_high,
            kl_coefficient=config.kl_coefficient,
            sampler_ratio_cap=config.sampler_ratio_cap,
        )
        statistics.append(sums)
        return loss

    hidden_PD = row.at_targets(hidden_BTD)
    result = token_loss(
        balance.model, hidden_PD, row.targets_P, loss_of, temperature=config.temperature
    )
    loss = result.loss if added_loss is None else result.loss + added_loss
    return _Row(
        loss,
        sum(statistics, PolicyStatistics()),
        result.entropy_N,
        result.logprobs_N if old_P is None else old_P,
        sampler_P,
    )


def _result(rows: Sequence[_Row], grad_norm: float, learning_rate: float) -> UpdateResult:
    if not rows:
        return UpdateResult(
            grad_norm, learning_rate, 0.0, LogprobGap(0.0, 0.0, 0.0), PolicyStatistics(), 0
        )
    entropy_N = torch.cat([row.entropy_P for row in rows])
    return UpdateResult(
        grad_norm=grad_norm,
        learning_rate=learning_rate,
        entropy=entropy_N.mean().item(),
        gap=logprob_gap(
            torch.cat([row.old_logprobs_P for row in rows]),
            torch.cat([row.sampler_logprobs_P for row in rows]),
        ),
        statistics=sum((row.statistics for row in rows), PolicyStatistics()),
        num_tokens=len(entropy_N),
    )


def _pack(
    model: LanguageModel, sequences: Sequence[TokenSequence], config: GrpoConfig
) -> list[PackedTargets]:
    # A reply longer than the budget still has to be trained on, alone in its row.
    longest = max((len(sequence) for sequence in sequences), default=1)
    max_tokens = max(config.micro_batch_tokens, longest)
    pack = pack_replies if can_share_prompts(model) else pack_targets
    return pack(sequences, max_tokens, device=model.head_weight.device)


__all__ = ["NonFiniteError", "PolicyBatch", "UpdateResult", "reply_logprobs", "update_policy"]
