"""The number of weights that a config describes, without building the model."""

from __future__ import annotations

from r1.models.model_config import ModelConfig


def num_parameters(model: ModelConfig) -> int:
    """Weights of a Llama or Qwen2 language model; a tied head counts once."""
    width, heads, kv_heads = model.hidden_size, model.num_attention_heads, model.num_key_value_heads
    query, keys = heads * model.head_dim, kv_heads * model.head_dim
    attention = 2 * width * query + 2 * width * keys
    attention += (query + 2 * keys) * model.has_qkv_bias + width * model.has_output_bias
    mlp = 3 * width * model.intermediate_size
    mlp += (2 * model.intermediate_size + width) * model.mlp_bias
    layer = attention + mlp + 2 * width
    head = 0 if model.tie_word_embeddings else model.vocab_size * width
    return model.vocab_size * width + model.num_hidden_layers * layer + width + head
