"""The number of weights that a config describes, without building the model."""

from __future__ import annotations

from r1.models.model_config import ModelConfig


def num_parameters(model: ModelConfig) -> int:
    """Weights of a language model; a tied head counts once.

    Multi-token prediction is left out, as in the published totals.
    """
    width, num_layers = model.hidden_size, model.num_hidden_layers
    if model.is_deepseek:
        num_dense = min(model.first_k_dense_replace or 0, num_layers)
        layers = num_layers * (_latent_attention(model) + 2 * width)
        layers += num_dense * 3 * width * model.intermediate_size
        layers += (num_layers - num_dense) * _mixture_of_experts(model)
    else:
        layers = num_layers * (_attention(model) + _dense_mlp(model) + 2 * width)
    head = 0 if model.tie_word_embeddings else model.vocab_size * width
    return model.vocab_size * width + layers + width + head


def num_active_parameters(model: ModelConfig) -> int:
    """Weights that one token is multiplied with: of the routed experts those that it goes to.

    An embedding of its own is left out, because a token takes one row of it: so counted,
    DeepSeek-V3 has the published 37B.
    """
    routed, used = num_routed_expert_parameters(model), 0
    if routed:
        assert model.n_routed_experts and model.num_experts_per_tok
        used = routed // model.n_routed_experts * model.num_experts_per_tok
    embedding = 0 if model.tie_word_embeddings else model.vocab_size * model.hidden_size
    return num_parameters(model) - routed + used - embedding


def num_routed_expert_parameters(model: ModelConfig) -> int:
    """Weights of all routed experts together; 0 for a dense model."""
    if not model.n_routed_experts:
        return 0
    assert model.moe_intermediate_size
    num_layers = max(model.num_hidden_layers - (model.first_k_dense_replace or 0), 0)
    expert = 3 * model.hidden_size * model.moe_intermediate_size
    return num_layers * model.n_routed_experts * expert


def num_prediction_parameters(model: ModelConfig) -> int:
    """Weights of the multi-token-prediction layers, the shared embedding and head left out."""
    if not model.num_nextn_predict_layers:
        return 0
    width = model.hidden_size
    layer = _latent_attention(model) + _mixture_of_experts(model) + 2 * width
    # eh_proj and the norms of its two inputs and of its output.
    return model.num_nextn_predict_layers * (layer + 2 * width * width + 3 * width)


def _attention(model: ModelConfig) -> int:
    width = model.hidden_size
    query = model.num_attention_heads * model.head_dim
    keys = model.num_key_value_heads * model.head_dim
    biases = (query + 2 * keys) * model.has_qkv_bias + width * model.has_output_bias
    return 2 * width * query + 2 * width * keys + biases


def _dense_mlp(model: ModelConfig) -> int:
    mlp = 3 * model.hidden_size * model.intermediate_size
    return mlp + (2 * model.intermediate_size + model.hidden_size) * model.mlp_bias


def _latent_attention(model: ModelConfig) -> int:
    assert model.kv_lora_rank and model.qk_nope_head_dim and model.v_head_dim
    width, heads = model.hidden_size, model.num_attention_heads
    rank, latent, bias = model.q_lora_rank, model.kv_lora_rank, model.attention_bias
    query = heads * model.head_dim
    queries = width * query if rank is None else rank * (width + bias + 1 + query)
    latents = (width + bias) * (latent + model.rope_dim) + latent
    keys_and_values = latent * heads * (model.qk_nope_head_dim + model.v_head_dim)
    return queries + latents + keys_and_values + (heads * model.v_head_dim + bias) * width


def _mixture_of_experts(model: ModelConfig) -> int:
    assert model.moe_intermediate_size and model.n_routed_experts
    num_experts = model.n_routed_experts + (model.n_shared_experts or 0)
    experts = num_experts * 3 * model.hidden_size * model.moe_intermediate_size
    router = model.n_routed_experts * (model.hidden_size + 1)
    return experts + router
