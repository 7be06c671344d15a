"""Llama and Qwen2, one definition for training and generation.

Module and parameter names are Hugging Face's, so a checkpoint loads by name.
Without a cache the forward is training's: packed rows, causal inside segments.
With one it is generation's: the cache stores keys and values and attends.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from r1.kernels.fused import Kernels
from r1.kernels.layers import LayerWeights, layer_addresses
from r1.kernels.quantized import QuantizedKernels
from r1.models.attention import AttentionPlan, FusedCache, KVCache, segment_attention
from r1.models.exact_attention import ExactPlan
from r1.models.language_model import Decoder, LanguageModel, SequenceScorer
from r1.models.layers import (
    Embedding,
    Linear,
    RMSNorm,
    RotaryEmbedding,
    SwiGLU,
    apply_rope,
    project,
)
from r1.models.model_config import ModelConfig


class Attention(nn.Module):
    """Grouped-query self-attention with rotary positions."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.head_dim = config.head_dim
        self.scale = config.head_dim**-0.5
        hidden, bias = config.hidden_size, config.has_qkv_bias
        query_size = config.num_attention_heads * config.head_dim
        key_size = config.num_key_value_heads * config.head_dim
        self.q_proj = Linear(hidden, query_size, bias=bias)
        self.k_proj = Linear(hidden, key_size, bias=bias)
        self.v_proj = Linear(hidden, key_size, bias=bias)
        self.o_proj = Linear(query_size, hidden, bias=config.has_output_bias)

    def forward(
        self,
        hidden_BTD: Tensor,
        rotation: tuple[Tensor, Tensor],
        context: AttentionPlan | KVCache,
    ) -> Tensor:
        """[B, T, D] to [B, T, D]; `rotation` is RotaryEmbedding's (cos, sin)."""
        heads = (*hidden_BTD.shape[:2], -1, self.head_dim)
        query, key, value = project(hidden_BTD, self.q_proj, self.k_proj, self.v_proj)
        choose = self.q_proj.kernels_for
        query_BTHK = apply_rope(query.view(heads), *rotation, choose)
        key_BTGK = apply_rope(key.view(heads), *rotation, choose)
        value_BTGK = value.view(heads)
        if isinstance(context, AttentionPlan):
            mixed_BTHK = segment_attention(context, query_BTHK, key_BTGK, value_BTGK, self.scale)
        else:
            mixed_BTHK = context.attend(self.layer, query_BTHK, key_BTGK, value_BTGK, self.scale)
        return self.o_proj(mixed_BTHK.flatten(2))


class DecoderLayer(nn.Module):
    """Attention and MLP, each behind its norm and around a residual."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config, layer)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = SwiGLU(config)

    def forward(
        self,
        hidden_BTD: Tensor,
        rotation: tuple[Tensor, Tensor],
        context: AttentionPlan | KVCache,
    ) -> Tensor:
        """[B, T, D] to [B, T, D]."""
        hidden_BTD = hidden_BTD + self.self_attn(
            self.input_layernorm(hidden_BTD), rotation, context
        )
        return hidden_BTD + self.mlp(self.post_attention_layernorm(hidden_BTD))

    def tensors(self) -> list[Tensor | None]:
        """As `LayerWeights` lists them."""
        attention, mlp = self.self_attn, self.mlp
        inputs = attention.q_proj, attention.k_proj, attention.v_proj
        return [
            self.input_layernorm.weight,
            *(part.weight for part in inputs),
            *(part.bias for part in inputs),
            attention.o_proj.weight,
            attention.o_proj.bias,
            self.post_attention_layernorm.weight,
            *(part.weight for part in (mlp.gate_proj, mlp.up_proj, mlp.down_proj)),
        ]


class LlamaModel(Decoder):
    """Embedding, decoder layers and final norm: everything but the head."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(
            DecoderLayer(config, layer) for layer in range(config.num_hidden_layers)
        )
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.rotary = RotaryEmbedding(config)
        self._kernels: Kernels | QuantizedKernels | None = None
        self._place = 0, 0
        self._found: LayerWeights | None = None

    def forward(
        self, input_ids_BT: Tensor, positions_BT: Tensor, kv_cache: KVCache | None = None
    ) -> Tensor:
        """Token ids and positions [B, T] to hidden states [B, T, D] after the final norm."""
        context = AttentionPlan.from_positions(positions_BT) if kv_cache is None else kv_cache
        if self.is_exact and isinstance(context, AttentionPlan):
            context = ExactPlan(context)
        hidden_BTD = self.embed_tokens(input_ids_BT)
        rotation = self.rotary(positions_BT, hidden_BTD.dtype)
        if hasattr(context, "run_layers") and (weights := self._weights(hidden_BTD)) is not None:
            fused_BTD = cast(FusedCache, context).run_layers(hidden_BTD, rotation, weights)
            if fused_BTD is not None:
                return fused_BTD
        for layer in self.layers:
            hidden_BTD = self.run_layer(layer, hidden_BTD, rotation, context)
        return self.norm(hidden_BTD)

    def _weights(self, hidden_BTD: Tensor) -> LayerWeights | None:
        """For all layers in one call; None where others than the C kernels compute them.

        Looked up again when the weights have moved, or have been rounded anew; the kernels of
        earlier ones are kept until then, so that no new ones can stand in their place.
        """
        query = _checked(self.layers[0]).self_attn.q_proj
        kernels = query.kernels_for(hidden_BTD)
        if kernels is not None:
            config = self.config
            kernels = kernels.for_all_layers(config.hidden_size, config.intermediate_size)
        if kernels is None:
            return None
        place = query.weight.data_ptr(), self.norm.weight.data_ptr()
        if self._kernels is not kernels or self._place != place:
            self._kernels, self._place = kernels, place
            self._found = self._find_weights(kernels)
        return self._found

    def _find_weights(self, kernels: Kernels | QuantizedKernels) -> LayerWeights | None:
        config, layers = self.config, [_checked(layer) for layer in self.layers]
        found = layer_addresses(kernels, [layer.tensors() for layer in layers])
        if found is None or config.mlp_bias:
            return None
        table, bits = found
        sizes = config.num_attention_heads, config.intermediate_size
        scale = layers[0].self_attn.scale
        place = self.norm.weight.data_ptr()
        return LayerWeights(table, place, bits, *sizes, config.rms_norm_eps, scale, self.is_exact)


def _checked(layer: nn.Module) -> DecoderLayer:
    assert isinstance(layer, DecoderLayer)
    return layer


class LlamaForCausalLM(LanguageModel):
    """Llama or Qwen2 with a head over the vocabulary."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config, LlamaModel(config))


class LlamaForSequenceClassification(SequenceScorer):
    """Llama or Qwen2 with a scalar head: a reward model."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config, LlamaModel(config))
