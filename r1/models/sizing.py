"""What a model needs to run: bytes of weights and cache, and the speed that bandwidth allows.

Generation is bound by reading: every step reads the weights that the batch touches once,
and every sequence's own cache once. So the tokens a second that a machine can reach at
most are its memory bandwidth over those bytes, times the batch.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from r1.models.model_config import ModelConfig
from r1.models.parameter_count import (
    num_parameters,
    num_prediction_parameters,
    num_routed_expert_parameters,
)

DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "float8": 1}

_PROBE_BYTES = 1 << 28
_PROBE_RUNS = 5
# Activations, the allocator's gaps and the runtime itself.
_OVERHEAD = 1.05


@dataclass(frozen=True, slots=True)
class Need:
    """What one way of running a model takes.

    `num_bytes` is weights plus cache for `batch` sequences of `context` tokens, and
    `tokens_per_second` the bound by bandwidth, summed over the batch (None when the
    bandwidth is not known); with drafts, if all of them are accepted.
    """

    context: int
    batch: int
    num_bytes: int
    tokens_per_second: float | None


def kv_values_per_token(config: ModelConfig, num_draft_layers: int = 0) -> int:
    """Values that the cache keeps of one token, over all layers and those that draft.

    Keys and values of every KV head; of multi-head latent attention only the latent and
    the rotary key that all heads share (DeepSeek-V2 report, section 2.1.2).
    """
    if config.kv_lora_rank is not None and config.qk_rope_head_dim is not None:
        per_layer = config.kv_lora_rank + config.qk_rope_head_dim
    else:
        per_layer = 2 * config.num_key_value_heads * config.head_dim
    return (config.num_hidden_layers + num_draft_layers) * per_layer


def kv_bytes_per_token(config: ModelConfig, dtype: str, num_draft_layers: int = 0) -> int:
    """Bytes of cache a token; a model in 8 bits keeps its cache in 16."""
    return kv_values_per_token(config, num_draft_layers) * max(2, DTYPE_BYTES[dtype])


def weight_bytes(config: ModelConfig, dtype: str) -> int:
    """Bytes of all weights, without the multi-token-prediction layer."""
    return num_parameters(config) * DTYPE_BYTES[dtype]


def draft_weight_bytes(config: ModelConfig, dtype: str) -> int:
    """Bytes of the multi-token-prediction layer, which drafts with the main model's head."""
    return num_prediction_parameters(config) * DTYPE_BYTES[dtype]


def touched_weight_bytes(config: ModelConfig, dtype: str, batch: int) -> int:
    """Bytes of the weights that one decoding step of `batch` sequences reads."""
    routed = num_routed_expert_parameters(config)
    shared = num_parameters(config) - routed
    # The embedding is a look-up: a row a token.
    embedding = 0 if config.tie_word_embeddings else config.vocab_size * config.hidden_size
    read = round(routed * _share_of_experts(config, batch))
    return (shared - embedding + read) * DTYPE_BYTES[dtype]


def touched_draft_bytes(config: ModelConfig, dtype: str, batch: int) -> int:
    """Bytes of the weights that one draft for each of `batch` sequences reads: layer and head."""
    num_layers = config.num_hidden_layers - (config.first_k_dense_replace or 0)
    routed = num_routed_expert_parameters(config) // max(num_layers, 1)
    layer = num_prediction_parameters(config) // (config.num_nextn_predict_layers or 1)
    read = layer - routed + round(routed * _share_of_experts(config, batch))
    return (read + config.vocab_size * config.hidden_size) * DTYPE_BYTES[dtype]


def _share_of_experts(config: ModelConfig, num_tokens: int) -> float:
    """The share of the routed experts that tokens go to, with routing as good as even.

    A token goes to k of E: so that share is 1 - (1 - k/E)^tokens.
    """
    chosen = (config.num_experts_per_tok or 0) / (config.n_routed_experts or 1)
    return 1 - (1 - chosen) ** num_tokens


def needs(
    config: ModelConfig,
    dtype: str,
    contexts: Iterable[int],
    batches: Iterable[int],
    bandwidth: float | None,
    num_drafts: int = 0,
) -> list[Need]:
    """The need of every context and batch; the model's own context bounds them.

    `bandwidth` is in bytes a second; `num_drafts` tokens a step are drafted by multi-token
    prediction (the engine's `speculative_tokens`) and verified by the next. Raises ValueError
    for drafts of a model without a layer for them.
    """
    if num_drafts and not config.num_nextn_predict_layers:
        raise ValueError(f"drafts: {config.architecture} here has no multi-token-prediction layer")
    rows = []
    batch_sizes = list(batches)
    token_bytes = kv_bytes_per_token(config, dtype, int(num_drafts > 0))
    weights = weight_bytes(config, dtype) + (draft_weight_bytes(config, dtype) if num_drafts else 0)
    for context in sorted({min(each, config.max_position_embeddings) for each in contexts}):
        for batch in batch_sizes:
            cache = batch * context * token_bytes
            num_tokens = batch * (1 + num_drafts)
            read = touched_weight_bytes(config, dtype, num_tokens) + cache
            if num_drafts:
                read += num_drafts * touched_draft_bytes(config, dtype, batch)
            speed = None if bandwidth is None else num_tokens * bandwidth / read
            rows.append(Need(context, batch, round((weights + cache) * _OVERHEAD), speed))
    return rows


def available_bytes(device: torch.device) -> int | None:
    """Memory that is free on the device now, or None where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
        return None
    lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
    return int(lines["MemAvailable"].split()[0]) * 1024


def measure_bandwidth(device: torch.device) -> float:
    """Bytes a second that the device reads from its memory, the best of a few short runs.

    Sums a buffer that no cache holds: reading is what decoding does.
    """
    buffer = torch.ones(_PROBE_BYTES // 4, dtype=torch.float32, device=device)
    best = float("inf")
    for _ in range(_PROBE_RUNS):
        _synchronize(device)
        started = time.perf_counter()
        buffer.sum().item()
        _synchronize(device)
        best = min(best, time.perf_counter() - started)
    return _PROBE_BYTES / best


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
