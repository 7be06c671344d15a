"""The shapes of the small models that tests train and run, with random weights."""

from __future__ import annotations

from typing import Any

from r1.models.model_config import ModelConfig


def qwen2(vocab_size: int, **changes: Any) -> ModelConfig:
    """Two layers of 32, four heads on two groups, tied embeddings."""
    shape: dict[str, Any] = {
        "architecture": "Qwen2ForCausalLM",
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 256,
        "tie_word_embeddings": True,
    }
    return ModelConfig(vocab_size=vocab_size, **shape | changes)


def deepseek_v3(vocab_size: int, **changes: Any) -> ModelConfig:
    """Latent attention in two layers of 32, of which the second has 8 experts in 4 groups."""
    shape: dict[str, Any] = {
        "architectures": ["DeepseekV3ForCausalLM"],
        "vocab_size": vocab_size,
        "hidden_size": 32,
        "intermediate_size": 64,
        "moe_intermediate_size": 16,
        "num_hidden_layers": 2,
        "first_k_dense_replace": 1,
        "num_attention_heads": 4,
        "n_routed_experts": 8,
        "num_experts_per_tok": 2,
        "n_group": 4,
        "topk_group": 2,
        "q_lora_rank": 16,
        "kv_lora_rank": 16,
        "qk_nope_head_dim": 8,
        "qk_rope_head_dim": 8,
        "v_head_dim": 8,
        "max_position_embeddings": 1024,
        "initializer_range": 0.1,
    }
    return ModelConfig.from_dict(shape | changes)
