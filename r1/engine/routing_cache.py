"""Which experts each cached token went to, so that a trainer can repeat the sampler's routing.

Rounding makes a router choose otherwise in the trainer than in the sampler where two
experts' scores are nearly equal, and then the two models differ (R3: "Rollout Routing
Replay", arXiv:2510.11370). The choices are kept block by block beside keys and values:
sequences that share a prefix share its routing, and a preempted one writes it again.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from r1.models.model_config import ModelConfig
from r1.models.moe import RoutingTrace


class RoutingCache:
    """Experts [block, token, MoE layer, A] as int16. Raises ValueError for a dense model."""

    def __init__(
        self, config: ModelConfig, num_blocks: int, block_size: int, device: torch.device
    ) -> None:
        if not config.n_routed_experts or not config.num_experts_per_tok:
            raise ValueError(f"record_routing: {config.architecture} has no experts to record")
        num_layers = config.num_hidden_layers - (config.first_k_dense_replace or 0)
        shape = (num_blocks, block_size, num_layers, config.num_experts_per_tok)
        self.experts = torch.zeros(shape, dtype=torch.int16, device=device)

    def store(self, write_slots: torch.Tensor, trace: RoutingTrace) -> None:
        """Keep the routing of a step's tokens, under their flat cache slots [N]."""
        experts_NLA = torch.stack([trace.experts[layer] for layer in sorted(trace.experts)], 1)
        self.experts.flatten(0, 1).index_copy_(0, write_slots, experts_NLA.to(torch.int16))

    def copy_blocks(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        """Copy whole blocks, as the KV cache does."""
        self.experts[list(targets)] = self.experts[list(sources)]

    def read(self, block_ids: Sequence[int], num_tokens: int) -> np.ndarray:
        """The first tokens' experts of a sequence, int16 [T, MoE layers, A]."""
        return self.experts[list(block_ids)].flatten(0, 1)[:num_tokens].cpu().numpy()
