"""A decoder layer of DeepSeek-V3: latent attention, and a dense or expert feed-forward."""

from __future__ import annotations

from torch import Tensor, nn

from r1.models.attention import AttentionPlan, KVCache
from r1.models.layers import RMSNorm, SwiGLU
from r1.models.mla import MultiHeadLatentAttention
from r1.models.model_config import ModelConfig
from r1.models.moe import MixtureOfExperts, RoutingTrace


class DeepseekDecoderLayer(nn.Module):
    """The first `first_k_dense_replace` layers are dense, the others mixtures of experts."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        assert config.first_k_dense_replace is not None
        is_dense = layer < config.first_k_dense_replace
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = MultiHeadLatentAttention(config, layer)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = SwiGLU(config) if is_dense else MixtureOfExperts(config, layer)

    def forward(
        self,
        hidden_BTD: Tensor,
        rotation: tuple[Tensor, Tensor],
        context: AttentionPlan | KVCache,
        trace: RoutingTrace | None = None,
    ) -> Tensor:
        """[B, T, D] to [B, T, D]."""
        hidden_BTD = hidden_BTD + self.self_attn(
            self.input_layernorm(hidden_BTD), rotation, context
        )
        normed_BTD = self.post_attention_layernorm(hidden_BTD)
        if isinstance(self.mlp, MixtureOfExperts):
            return hidden_BTD + self.mlp(normed_BTD, trace)
        return hidden_BTD + self.mlp(normed_BTD)
