"""Multi-token prediction: one more decoder layer that predicts the token after the next.

DeepSeek-V3 report (arXiv:2412.19437), section 2.2; weights and their order are the
release's. Embedding and head are the main model's.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from r1.models.attention import AttentionPlan, KVCache
from r1.models.deepseek_layer import DeepseekDecoderLayer
from r1.models.layers import Linear, RMSNorm
from r1.models.model_config import ModelConfig
from r1.models.moe import RoutingTrace


class SharedHead(nn.Module):
    """The predictor's own final norm, under the release's name; the head itself is shared."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)


class MultiTokenPredictor(DeepseekDecoderLayer):
    """Layer number `num_hidden_layers` of a released checkpoint."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__(config, layer)
        hidden, eps = config.hidden_size, config.rms_norm_eps
        self.enorm = RMSNorm(hidden, eps)
        self.hnorm = RMSNorm(hidden, eps)
        self.eh_proj = Linear(2 * hidden, hidden, bias=False)
        self.shared_head = SharedHead(config)

    def predict(
        self,
        states: tuple[Tensor, Tensor],
        rotation: tuple[Tensor, Tensor],
        context: AttentionPlan | KVCache,
        trace: RoutingTrace | None = None,
    ) -> Tensor:
        """Hidden states [B, T, D], normed for the shared head.

        `states` are the main model's final hidden states and the embeddings of the tokens
        that follow them, [B, T, D] each.
        """
        hidden_BTD, next_BTD = states
        both = torch.cat((self.enorm(next_BTD), self.hnorm(hidden_BTD)), -1)
        return self.shared_head.norm(self(self.eh_proj(both), rotation, context, trace))
