"""Multi-head latent attention (DeepSeek-V2 report, arXiv:2405.04434, section 2.1).

Keys and values of all heads are made from one latent of C numbers a token; beside it
stands one rotary key that all heads share. Two forms compute the same. Without a cache
(training) keys and values are made from the latents of all tokens: the fewest operations.
With one (generation) the matrix that makes keys is applied to the queries and the one
that makes values to the result, so that heads attend to the latents themselves and only
C + R numbers of a token are kept.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from r1.models.attention import AttentionPlan, KVCache, segment_attention
from r1.models.layers import Linear, RMSNorm, apply_rope, split_pairs
from r1.models.model_config import ModelConfig

# The release's code leaves the latents' norms at their default, whatever rms_norm_eps says.
_LATENT_NORM_EPS = 1e-6


class MultiHeadLatentAttention(nn.Module):
    """Names and order of the released checkpoints; `q_lora_rank` None has a plain `q_proj`."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        assert config.kv_lora_rank and config.qk_nope_head_dim and config.v_head_dim
        self.layer = layer
        self.num_heads = config.num_attention_heads
        self.head_dim, self.value_dim = config.head_dim, config.v_head_dim
        self.nope_dim, self.rope_dim = config.qk_nope_head_dim, config.rope_dim
        self.latent_dim = config.kv_lora_rank
        self.is_interleaved = bool(config.rope_interleave)
        self.scale = config.head_dim**-0.5 * config.rope.attention_scale
        hidden, bias = config.hidden_size, config.attention_bias
        query_size, rank = self.num_heads * self.head_dim, config.q_lora_rank
        if rank is None:
            self.q_proj = Linear(hidden, query_size, bias=False)
        else:
            self.q_a_proj = Linear(hidden, rank, bias=bias)
            self.q_a_layernorm = RMSNorm(rank, _LATENT_NORM_EPS)
            self.q_b_proj = Linear(rank, query_size, bias=False)
        self.has_query_latent = rank is not None
        self.kv_a_proj_with_mqa = Linear(hidden, self.latent_dim + self.rope_dim, bias=bias)
        self.kv_a_layernorm = RMSNorm(self.latent_dim, _LATENT_NORM_EPS)
        key_value_size = self.num_heads * (self.nope_dim + self.value_dim)
        self.kv_b_proj = Linear(self.latent_dim, key_value_size, bias=False)
        self.o_proj = Linear(self.num_heads * self.value_dim, hidden, bias=bias)

    def forward(
        self,
        hidden_BTD: Tensor,
        rotation: tuple[Tensor, Tensor],
        context: AttentionPlan | KVCache,
    ) -> Tensor:
        """[B, T, D] to [B, T, D]; `rotation` is RotaryEmbedding's (cos, sin)."""
        if self.has_query_latent:
            query = self.q_b_proj(self.q_a_layernorm(self.q_a_proj(hidden_BTD)))
        else:
            query = self.q_proj(hidden_BTD)
        parts = [self.nope_dim, self.rope_dim]
        query_nope_BTHK, query_rope_BTHR = query.unflatten(-1, (-1, self.head_dim)).split(parts, -1)
        query_rope_BTHR = self._rotate(query_rope_BTHR, rotation)
        latent_BTC, key_rope_BTR = self.kv_a_proj_with_mqa(hidden_BTD).split(
            [self.latent_dim, self.rope_dim], -1
        )
        latent_BTC = self.kv_a_layernorm(latent_BTC)
        key_rope_BT1R = self._rotate(key_rope_BTR[:, :, None], rotation)
        if isinstance(context, AttentionPlan):
            query_BTHK = torch.cat((query_nope_BTHK, query_rope_BTHR), -1)
            mixed_BTHK = self._attend_plain(query_BTHK, latent_BTC, key_rope_BT1R, context)
        else:
            key_nope_HKC, value_HKC = self._key_and_value_weights()
            query_BTHC = torch.einsum("BTHK,HKC->BTHC", query_nope_BTHK, key_nope_HKC)
            mixed_BTHC = context.attend(
                self.layer,
                torch.cat((query_BTHC, query_rope_BTHR), -1),
                torch.cat((latent_BTC[:, :, None], key_rope_BT1R), -1),
                None,
                self.scale,
            )
            # The rotary key was mixed with the latents, as if it were part of the values.
            mixed_BTHC = mixed_BTHC[..., : self.latent_dim]
            mixed_BTHK = torch.einsum("BTHC,HKC->BTHK", mixed_BTHC, value_HKC)
        return self.o_proj(mixed_BTHK.flatten(2))

    def _attend_plain(
        self, query_BTHK: Tensor, latent_BTC: Tensor, key_rope_BT1R: Tensor, plan: AttentionPlan
    ) -> Tensor:
        key_value = self.kv_b_proj(latent_BTC).unflatten(-1, (self.num_heads, -1))
        key_nope_BTHK, value_BTHK = key_value.split([self.nope_dim, self.value_dim], -1)
        key_rope_BTHR = key_rope_BT1R.expand(-1, -1, self.num_heads, -1)
        key_BTHK = torch.cat((key_nope_BTHK, key_rope_BTHR), -1)
        # SDPA's fast kernels want values as wide as keys; zeros stay zeros.
        missing = self.head_dim - self.value_dim
        if missing > 0:
            value_BTHK = F.pad(value_BTHK, (0, missing))
        mixed_BTHK = segment_attention(plan, query_BTHK, key_BTHK, value_BTHK, self.scale)
        return mixed_BTHK[..., : self.value_dim]

    def _key_and_value_weights(self) -> tuple[Tensor, Tensor]:
        """What makes keys and values of a latent, by head: [H, K, C] each."""
        weight_HKC = self.kv_b_proj.weight.unflatten(0, (self.num_heads, -1))
        key_HKC, value_HKC = weight_HKC.split([self.nope_dim, self.value_dim], 1)
        return key_HKC, value_HKC

    def _rotate(self, heads_BTHR: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
        if self.is_interleaved:
            heads_BTHR = split_pairs(heads_BTHR)
        return apply_rope(heads_BTHR, *rotation)
