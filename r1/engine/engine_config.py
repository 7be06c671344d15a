"""The engine's limits, and what they come to for a model."""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field

from r1.config import Config
from r1.kernels.fused import TILE_TOKENS
from r1.models.exact import make_exact
from r1.models.exact_attention import attention_kernels
from r1.models.language_model import LanguageModel


class EngineConfig(Config):
    """Limits of the engine; vLLM's names.

    `kv_cache_bytes` bounds the cache (in all layers together) unless `num_blocks`
    is set. `max_model_len` None is the model's own context, or what the cache
    holds if that is less. `touch_cache` takes its memory at the start:
    else steps wait while the system finds it, until the cache has been full once. A step
    computes at most `max_num_batched_tokens` tokens.
    `record_routing` gives every sample the experts that its tokens went to.
    `speculative_tokens` are drafted a step and row by the model's multi-token-prediction
    layer; samples stay what they are without. `exact`: a token's log-prob has the trainer's
    bits, whatever it was batched with (docs/exact.md). `quantize`: weights rounded for serving
    on a CPU, beside the model's own.
    """

    block_size: int = Field(default=16, ge=1)
    kv_cache_bytes: int = Field(default=512 * 2**20, ge=1)
    num_blocks: int | None = Field(default=None, ge=1)
    touch_cache: bool = False
    max_num_seqs: int = Field(default=512, ge=1)
    max_num_batched_tokens: int = Field(default=2048, ge=1)
    max_model_len: int | None = Field(default=None, ge=2)
    enable_prefix_caching: bool = True
    record_routing: bool = False
    speculative_tokens: int = Field(default=0, ge=0, le=16)
    exact: bool = False
    quantize: Literal["int8", "int4"] | None = None

    @property
    def num_draft_layers(self) -> int:
        """Layers beyond the model's own that need a cache."""
        return int(self.speculative_tokens > 0)


def turn_exact(model: LanguageModel, config: EngineConfig) -> None:
    """Put the model in exact mode where the config says so; ValueError where it cannot be."""
    if not config.exact:
        return
    if config.quantize is not None:
        raise ValueError("exact = true: the trainer's weights are not rounded; drop quantize")
    make_exact(model)
    shape = (1, model.config.num_attention_heads, model.config.head_dim)
    query = torch.empty(shape, dtype=model.dtype, device=model.device)
    if attention_kernels(query) is not None and config.block_size % TILE_TOKENS:
        raise ValueError(
            f"block_size = {config.block_size}: exact = true needs a multiple of {TILE_TOKENS} here"
        )


def num_blocks(model: LanguageModel, config: EngineConfig) -> int:
    """How many blocks the KV cache gets; ValueError when the limits contradict each other."""
    if config.speculative_tokens and not model.config.num_nextn_predict_layers:
        raise ValueError(
            f"speculative_tokens = {config.speculative_tokens}: this {model.config.architecture}"
            " has no multi-token-prediction layer to draft with; set it to 0"
        )
    step_tokens = config.max_num_seqs * (1 + config.speculative_tokens)
    if config.max_num_batched_tokens < step_tokens:
        raise ValueError(
            f"max_num_batched_tokens ({config.max_num_batched_tokens}) must be at least"
            f" max_num_seqs * (1 + speculative_tokens) = {step_tokens}: every sequence decodes"
            " one token a step, and verifies its drafts"
        )
    if config.num_blocks is not None:
        return config.num_blocks
    shape = model.config
    token_bytes = math.prod(shape.kv_entry_shape)
    token_bytes *= shape.num_hidden_layers + config.num_draft_layers
    token_bytes *= model.head_weight.element_size()
    count = config.kv_cache_bytes // (token_bytes * config.block_size)
    if count < 1:
        raise ValueError(
            f"kv_cache_bytes = {config.kv_cache_bytes} holds no block: one of"
            f" {config.block_size} tokens takes {token_bytes * config.block_size} bytes"
        )
    return count


def max_model_len(model: LanguageModel, config: EngineConfig, num_blocks: int) -> int:
    """Tokens of prompt and reply together; ValueError when cache or model hold fewer."""
    capacity = num_blocks * config.block_size
    context = model.config.max_position_embeddings
    if config.max_model_len is None:
        return min(context, capacity)
    if config.max_model_len > capacity:
        raise ValueError(
            f"max_model_len = {config.max_model_len} does not fit a KV cache of {capacity}"
            f" tokens: raise kv_cache_bytes or num_blocks"
        )
    if config.max_model_len > context:
        raise ValueError(
            f"max_model_len = {config.max_model_len} exceeds the model's context of {context}"
        )
    return config.max_model_len
