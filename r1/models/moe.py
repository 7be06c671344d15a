"""DeepSeekMoE: shared experts, and routed ones chosen by group-limited sigmoid scores.

Method: DeepSeek-V3 report (arXiv:2412.19437), sections 2.1.2 and 3.2; the selection is
that of the released code. The routed experts' weights are stacked, so that all of them
are computed at once over tokens sorted by expert: by a C kernel on a CPU, elsewhere by two
grouped matrix products.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from r1.kernels.experts import has_experts_kernel, mix_experts
from r1.models.layers import SwiGLU
from r1.models.model_config import ModelConfig


@dataclass(slots=True)
class RoutingTrace:
    """What the routers of one forward pass did, and what they shall do instead.

    A pass fills `experts` [N, A] and `scores` [N, E] of each MoE layer. Where `replay`
    has a layer, its experts are taken instead of the router's choice, weighed by the
    router's own scores: so a trainer can repeat the routing of the sampler.
    """

    replay: Mapping[int, Tensor] = field(default_factory=dict)
    experts: dict[int, Tensor] = field(default_factory=dict)
    scores: dict[int, Tensor] = field(default_factory=dict)


class Router(nn.Module):
    """Scores experts, chooses some, and weighs the chosen; always in fp32."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        assert config.n_routed_experts and config.n_group and config.topk_group
        assert config.num_experts_per_tok and config.routed_scaling_factor
        self.num_chosen = config.num_experts_per_tok
        self.num_groups, self.num_chosen_groups = config.n_group, config.topk_group
        self.is_normalized = config.norm_topk_prob
        self.scaling_factor = config.routed_scaling_factor
        self.weight = nn.Parameter(torch.empty(config.n_routed_experts, config.hidden_size))
        self.e_score_correction_bias = nn.Parameter(
            torch.empty(config.n_routed_experts), requires_grad=False
        )

    def forward(self, hidden_ND: Tensor) -> Tensor:
        """Scores [N, E] in (0, 1)."""
        return F.linear(hidden_ND.float(), self.weight.float()).sigmoid()

    def choose(self, scores_NE: Tensor) -> Tensor:
        """The experts [N, A] of each token: the best of its best groups.

        A group is worth the sum of its two best experts. The bias only selects; weights
        come from the raw scores (V3 report 2.1.2).
        """
        choice_NE = scores_NE.detach() + self.e_score_correction_bias
        if self.num_chosen_groups < self.num_groups:
            choice_NGE = choice_NE.unflatten(1, (self.num_groups, -1))
            worth_NG = choice_NGE.topk(2, dim=-1).values.sum(-1)
            best_NG = worth_NG.topk(self.num_chosen_groups, dim=-1, sorted=False).indices
            is_out_NG = torch.ones_like(worth_NG, dtype=torch.bool).scatter_(1, best_NG, False)
            choice_NE = choice_NGE.masked_fill(is_out_NG[..., None], -torch.inf).flatten(1)
        return choice_NE.topk(self.num_chosen, dim=-1, sorted=False).indices

    def weigh(self, scores_NE: Tensor, experts_NA: Tensor) -> Tensor:
        """How much each chosen expert counts, [N, A]."""
        weights_NA = scores_NE.gather(1, experts_NA)
        if self.is_normalized:
            weights_NA = weights_NA / (weights_NA.sum(-1, keepdim=True) + 1e-20)
        return weights_NA * self.scaling_factor

    @torch.no_grad()
    def update_bias(self, load_E: Tensor, speed: float) -> None:
        """Lower the bias of overloaded experts by `speed` and raise the others' (V3 2.1.2).

        `load_E` counts the tokens that went to each expert in the whole training step.
        """
        load_E = load_E.float()
        self.e_score_correction_bias += speed * (load_E.mean() - load_E).sign()


class Experts(nn.Module):
    """E gated feed-forward blocks in two stacks: [E, 2F, D] (gate over up) and [E, D, F]."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        assert config.n_routed_experts and config.moe_intermediate_size
        num_experts, inner = config.n_routed_experts, config.moe_intermediate_size
        self.num_experts = num_experts
        self.gate_up_proj = nn.Parameter(torch.empty(num_experts, 2 * inner, config.hidden_size))
        self.down_proj = nn.Parameter(torch.empty(num_experts, config.hidden_size, inner))

    def forward(self, hidden_ND: Tensor, experts_NA: Tensor, weights_NA: Tensor) -> Tensor:
        """The weighted sum [N, D] of every token's experts."""
        stacks = self.gate_up_proj, self.down_proj
        if has_experts_kernel(hidden_ND, experts_NA, *stacks):
            return mix_experts(hidden_ND, experts_NA, weights_NA, *stacks)
        num_tokens, num_chosen = experts_NA.shape
        order = experts_NA.flatten().argsort(stable=True)
        place = torch.empty_like(order)
        place[order] = torch.arange(len(order), device=order.device)
        ends_E = torch.bincount(experts_NA.flatten(), minlength=self.num_experts).cumsum(0)
        # One copy of a token for each of its experts, then a permutation: its gradient is a
        # permutation too and the copies' a sum, so training repeats bit for bit.
        copies = hidden_ND[:, None].expand(-1, num_chosen, -1).flatten(0, 1)
        rows = copies.index_select(0, order)
        gate, up = grouped_linear(rows, self.gate_up_proj, ends_E).chunk(2, -1)
        output = grouped_linear(F.silu(gate) * up, self.down_proj, ends_E)
        output_NAD = output.index_select(0, place).unflatten(0, (num_tokens, num_chosen))
        return torch.bmm(weights_NA[:, None].to(output.dtype), output_NAD)[:, 0]


def grouped_linear(rows: Tensor, weight_EFD: Tensor, ends_E: Tensor) -> Tensor:
    """Rows [*, D], sorted by expert, times their expert's matrix transposed: [*, F].

    `ends_E` are the places in `rows` after each expert's last one.
    """
    weight_EDF = weight_EFD.transpose(1, 2)
    # The kernel wants every row to start on 16 bytes.
    is_aligned = all(size * rows.element_size() % 16 == 0 for size in weight_EFD.shape[1:])
    if is_aligned:
        return F.grouped_mm(rows, weight_EDF, offs=ends_E.int())
    counts = ends_E.diff(prepend=ends_E.new_zeros(1)).tolist()
    parts = zip(rows.split(counts), weight_EDF.unbind(), strict=True)
    return torch.cat([part @ weight for part, weight in parts])


class MixtureOfExperts(nn.Module):
    """The feed-forward block of a MoE layer: routed experts plus shared ones."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        assert config.moe_intermediate_size
        self.layer = layer
        self.gate = Router(config)
        self.experts = Experts(config)
        shared = config.moe_intermediate_size * (config.n_shared_experts or 0)
        self.shared_experts = SwiGLU(config, shared) if shared else None

    def forward(self, hidden_BTD: Tensor, trace: RoutingTrace | None = None) -> Tensor:
        """[B, T, D] to [B, T, D]."""
        hidden_ND = hidden_BTD.flatten(0, 1)
        scores_NE = self.gate(hidden_ND)
        experts_NA = trace.replay.get(self.layer) if trace is not None else None
        if experts_NA is None:
            experts_NA = self.gate.choose(scores_NE)
        if trace is not None:
            trace.experts[self.layer], trace.scores[self.layer] = experts_NA, scores_NE
        weights_NA = self.gate.weigh(scores_NE, experts_NA)
        output_BTD = self.experts(hidden_ND, experts_NA, weights_NA).view_as(hidden_BTD)
        if self.shared_experts is not None:
            output_BTD = output_BTD + self.shared_experts(hidden_BTD)
        return output_BTD


def expert_load(experts_NA: Tensor, num_experts: int) -> Tensor:
    """How many tokens went to each expert, int64 [E]."""
    return torch.bincount(experts_NA.flatten(), minlength=num_experts)


def balance_loss(scores_NE: Tensor, positions_N: Tensor, num_chosen: int) -> Tensor:
    """The sequence-wise balance loss without its alpha, summed over the sequences.

    V3 report, equations 17 to 20: for each sequence, the sum over experts of f_i, the
    share of its tokens that have expert i among their best `num_chosen` scores (relative
    to an even share), times P_i, the mean of its tokens' normalised scores. An even
    spread gives 1. Sequences of the packed row start where the position is 0.
    """
    num_experts = scores_NE.shape[1]
    is_start = positions_N == 0
    is_start[0] = True
    sequence_N = is_start.cumsum(0) - 1
    num_sequences = int(sequence_N[-1]) + 1
    member_SN = F.one_hot(sequence_N, num_sequences).T.to(scores_NE.dtype)
    mean_SN = member_SN / member_SN.sum(1, keepdim=True)
    best_NA = scores_NE.detach().topk(num_chosen, dim=-1).indices
    is_best_NE = torch.zeros_like(scores_NE).scatter_(1, best_NA, 1.0)
    share_SE = mean_SN @ is_best_NE * (num_experts / num_chosen)
    mean_score_SE = mean_SN @ (scores_NE / scores_NE.sum(-1, keepdim=True))
    return (share_SE * mean_score_SE).sum()
