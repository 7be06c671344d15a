"""What a mixture of experts needs of training beyond its loss; nothing for a dense model.

Expert load is counted over a step, the routers' biases are moved against it after the
step (V3 report, arXiv:2412.19437, section 2.1.2), and the sequence-wise balance loss and
the multi-token-prediction loss are added where they have a weight. The one place in
training that knows that models differ.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from r1.config import Config
from r1.models.deepseek_v3 import DeepseekV3ForCausalLM
from r1.models.language_model import LanguageModel
from r1.models.moe import RoutingTrace, balance_loss, expert_load
from r1.training.logprobs import token_loss
from r1.training.losses import sft_loss
from r1.training.packing import PackedTargets

# Of each sequence of a batch, int16 [T, MoE layers, A]: a Sample's `routed_experts`.
RoutedExperts = Sequence[NDArray[np.int16]]


class ExpertConfig(Config):
    """How a mixture of experts is kept in balance. The V3 report: 0.001 and 0.0001."""

    bias_update_speed: float = Field(default=0.0, ge=0)
    """The routers' biases move by this much a step, against the load."""
    balance_loss_weight: float = Field(default=0.0, ge=0)
    """Of the sequence-wise balance loss, averaged over sequences."""


class ExpertBalance:
    """The forward pass of a training step, and what happens to the experts after it.

    Raises ValueError for settings that the model has nothing for.
    """

    def __init__(
        self, model: LanguageModel, config: ExpertConfig, *, mtp_loss_weight: float = 0.0
    ) -> None:
        self.model = model
        self.config = config
        self.mtp_loss_weight = mtp_loss_weight
        self._load: dict[int, Tensor] = {}
        self._balance = 0.0
        check_experts(model, config)
        if mtp_loss_weight and not model.config.num_nextn_predict_layers:
            raise ValueError("mtp_loss_weight: the model has no multi-token-prediction layer")

    def forward(
        self,
        row: PackedTargets,
        *,
        num_sequences: int,
        num_targets: int,
        routed_experts: RoutedExperts | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Hidden states [1, N, D] of a packed row, and what is to be added to its loss.

        The two numbers are those of the whole batch, so that micro-batches add up. A pass
        that only measures, without gradients, adds and counts nothing. With
        `routed_experts`, the sampler's of every sequence of the batch, tokens go where
        they went when they were sampled.
        """
        model = self.model
        if not isinstance(model, DeepseekV3ForCausalLM):
            return model(row.input_ids_BT, row.positions_BT, row.plan), None
        trace = RoutingTrace(replay=_replay(model, row, routed_experts))
        hidden_BTD = model(row.input_ids_BT, row.positions_BT, trace=trace)
        if not torch.is_grad_enabled():
            return hidden_BTD, None
        losses = []
        if self.mtp_loss_weight:
            losses.append(
                self.mtp_loss_weight * mtp_loss(model, row, hidden_BTD, num_targets, trace)
            )
        for layer, experts_NA in trace.experts.items():
            load_E = expert_load(experts_NA, trace.scores[layer].shape[1])
            self._load[layer] = self._load.get(layer, 0) + load_E
        if self.config.balance_loss_weight:
            balance = _balance_loss(row, trace) / max(num_sequences, 1)
            self._balance += balance.item() / len(trace.experts)
            losses.append(self.config.balance_loss_weight * balance)
        return hidden_BTD, sum(losses[1:], losses[0]) if losses else None

    def after_step(self) -> dict[str, float]:
        """Move the biases by the load of the step; returns what to log, {} for a dense model.

        `expert_load_max` is the load of the busiest expert of any layer relative to an
        even share, `expert_unused` the part of all experts without a token, and
        `balance_loss` the mean over sequences and layers (1 is even).
        """
        if not self._load or not isinstance(self.model, DeepseekV3ForCausalLM):
            return {}
        for layer in self.model.moe_layers():
            if self.config.bias_update_speed and layer.layer in self._load:
                layer.gate.update_bias(self._load[layer.layer], self.config.bias_update_speed)
        load_LE = torch.stack(list(self._load.values())).float()
        metrics = {
            "expert_load_max": (load_LE / load_LE.mean(1, keepdim=True)).max().item(),
            "expert_unused": (load_LE == 0).float().mean().item(),
        }
        if self.config.balance_loss_weight:
            metrics["balance_loss"] = self._balance
        self._load, self._balance = {}, 0.0
        return metrics


def can_share_prompts(model: LanguageModel) -> bool:
    """Whether rows may hold a prompt once for many replies: routing is replayed, and its
    balance counted, by whole sequences."""
    return not isinstance(model, DeepseekV3ForCausalLM)


def check_experts(model: LanguageModel, config: ExpertConfig) -> None:
    """Raises ValueError for settings of experts with a model that has none."""
    is_set = config.bias_update_speed or config.balance_loss_weight
    if is_set and not isinstance(model, DeepseekV3ForCausalLM):
        raise ValueError(f"experts.*: {model.config.architecture} has no experts to balance")


def mtp_loss(
    model: DeepseekV3ForCausalLM,
    row: PackedTargets,
    hidden_BTD: Tensor,
    num_targets: int,
    trace: RoutingTrace | None = None,
) -> Tensor:
    """The loss of predicting each target from two tokens before it (V3 report, equation 24).

    A sequence's second token has only one before it and is left out; the sum is over
    `num_targets`, as the main loss's.
    """
    drafted_BTD = model.draft(hidden_BTD, _next_ids(row), row.positions_BT, trace=trace)
    has_two_before = row.positions_BT[0, row.target_places_P] > 0
    places = row.target_places_P[has_two_before] - 1
    targets = row.targets_P[has_two_before]
    drafted = drafted_BTD[0].index_select(0, places)
    return token_loss(model, drafted, targets, lambda part, _: sft_loss(part, num_targets)).loss


def _replay(
    model: DeepseekV3ForCausalLM, row: PackedTargets, routed_experts: RoutedExperts | None
) -> dict[int, Tensor]:
    """The sampler's experts of the row's tokens, by layer: [N, A] each."""
    if routed_experts is None:
        return {}
    experts_NLA = np.concatenate([routed_experts[index] for index in row.sequence_indices])
    assert len(experts_NLA) == row.input_ids_BT.numel(), "one choice for each token that is fed"
    experts_LNA = torch.from_numpy(experts_NLA.astype(np.int64)).to(model.device).unbind(1)
    return dict(enumerate(experts_LNA, start=model.config.first_k_dense_replace or 0))


def _next_ids(row: PackedTargets) -> Tensor:
    """The token after each of the row's, [1, N], whatever the sequences lie next to.

    A sequence's last token was not fed; it is known where it is a target. Elsewhere the
    place repeats its own token: nothing is predicted from it.
    """
    is_end_BT = row.positions_BT.roll(-1, dims=1) == 0
    next_ids_BT = row.input_ids_BT.roll(-1, dims=1).where(~is_end_BT, row.input_ids_BT)
    next_ids_BT[0, row.target_places_P] = row.targets_P
    return next_ids_BT


def _balance_loss(row: PackedTargets, trace: RoutingTrace) -> Tensor:
    losses = [
        balance_loss(scores_NE, row.positions_BT[0], trace.experts[layer].shape[1])
        for layer, scores_NE in trace.scores.items()
    ]
    return torch.stack(losses).sum()
