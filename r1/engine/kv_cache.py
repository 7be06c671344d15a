"""Keys and values in blocks, and attention over them.

A layer's cache is one tensor [block, token, 2 (key, value), G, K]: a sequence's
context is read by one `index_select` of whole blocks, which on a CPU copies rows
of kilobytes, and goes to SDPA as a strided view. Query heads that share a KV head
are rows of one query in decode, so keys and values are never repeated. Multi-head
latent attention keeps one vector a token, [block, token, 1, 1, C + R], which is key
and value at once. Where the C kernels serve, blocks are in their layout (`tiled_attention`).
A GPU's kernels read them as they are (`paged_attention`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from r1.engine.paged_attention import BoundPagedCache, PagedPlan, paged_kernels
from r1.engine.tiled_attention import BoundTiledCache, TiledPlan, tiled_kernels
from r1.kernels.fused import TILE_TOKENS
from r1.long_lived import untouched_zeros
from r1.models.attention import KVCache
from r1.models.exact_attention import QueryTiles, attend_tiles
from r1.models.model_config import ModelConfig


@dataclass(frozen=True, slots=True)
class AttentionBucket:
    """Rows of like length that attend together: packed tokens first..last.

    `block_ids` [P * blocks], `mask` [P, 1, T or 1, S] (0 or -inf) for P sequences
    with T query tokens each. Where T differs, `pad_index` [P * T] (relative to
    `first`) spreads the packed tokens to padded ones, and `unpad_index` gathers them.
    """

    first: int
    last: int
    num_rows: int
    block_ids: torch.Tensor
    mask: torch.Tensor
    pad_index: torch.Tensor | None = None
    unpad_index: torch.Tensor | None = None


@dataclass(frozen=True, slots=True)
class AttentionMetadata:
    """Where a step's packed tokens are written (flat cache slots [N]) and what they read.

    In exact mode `buckets` are tiles of queries, each with the slots of its keys.
    """

    write_slots: torch.Tensor
    buckets: list[AttentionBucket] | QueryTiles


class CacheTooLarge(ValueError):
    """More than the memory holds; `problem` is without the settings of a config."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"{problem}; lower engine.kv_cache_bytes or engine.num_blocks")
        self.problem = problem


class PagedKVCache:
    """The storage: `num_blocks` blocks of `block_size` tokens in every layer.

    `num_extra_layers` stand behind the model's own, for one that drafts. Raises CacheTooLarge
    when the memory does not hold them.
    """

    def __init__(
        self,
        config: ModelConfig,
        num_blocks: int,
        block_size: int,
        dtype: torch.dtype,
        device: torch.device,
        num_extra_layers: int = 0,
    ) -> None:
        num_layers = config.num_hidden_layers + num_extra_layers
        shape = (num_blocks, block_size, *config.kv_entry_shape)
        self.num_heads_per_group = config.num_attention_heads // config.kv_entry_shape[1]
        self.tiled = tiled_kernels(config, block_size, dtype, device)
        self.paged = paged_kernels(config, dtype, device)
        if self.tiled is not None:
            _, num_groups, head_dim = config.kv_entry_shape
            num_tiles = block_size // TILE_TOKENS
            shape = (num_blocks, num_tiles, num_groups, 2, TILE_TOKENS * head_dim)
        # Zeros, not empty: masked slots are read, and NaN times probability 0 is NaN.
        try:
            self.layers = [untouched_zeros(shape, dtype, device) for _ in range(num_layers)]
        except RuntimeError as error:  # torch has no narrower class for a CPU's memory
            size = math.prod(shape) * dtype.itemsize * num_layers
            raise CacheTooLarge(
                f"a KV cache of {size / 2**30:.1f} GiB does not fit the memory of {device}"
            ) from error
        self.addresses = np.array([layer.data_ptr() for layer in self.layers], np.int64)

    def clear(self) -> None:
        """Zero everything (after a failed step may have left NaN behind)."""
        for layer in self.layers:
            layer.zero_()

    def copy_blocks(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        """Copy whole blocks in every layer: a shared prompt's last, partly filled one."""
        device = self.layers[0].device
        source_ids = torch.tensor(sources, device=device)
        target_ids = torch.tensor(targets, device=device)
        for layer in self.layers:
            layer.index_copy_(0, target_ids, layer.index_select(0, source_ids))

    def bind(
        self,
        metadata: AttentionMetadata | TiledPlan | PagedPlan,
        wanted: np.ndarray | None = None,
    ) -> KVCache:
        """The cache as one step's forward sees it; `wanted` as `BoundTiledCache` has it."""
        if isinstance(metadata, TiledPlan):
            assert self.tiled is not None
            return BoundTiledCache(self.tiled, self.layers, self.addresses, metadata, wanted)
        if isinstance(metadata, PagedPlan):
            assert self.paged is not None
            return BoundPagedCache.of(self.paged, self.layers, metadata)
        return BoundKVCache(self.layers, metadata)


@dataclass(frozen=True, slots=True)
class BoundKVCache:
    """Cache and step together; tokens are packed in one row, so B is 1 and T is N."""

    layers: list[torch.Tensor]
    metadata: AttentionMetadata

    def attend(
        self,
        layer: int,
        query_BTHK: torch.Tensor,
        key_BTGK: torch.Tensor,
        value_BTGK: torch.Tensor | None,
        scale: float,
    ) -> torch.Tensor:
        """Write the step's keys and values, then attend; returns [1, N, H, K]."""
        blocks = self.layers[layer]
        if value_BTGK is None:
            key_value = key_BTGK[0, :, None]
        else:
            key_value = torch.stack((key_BTGK[0], value_BTGK[0]), dim=1)
        blocks.flatten(0, 1).index_copy_(0, self.metadata.write_slots, key_value)
        query_NHK, buckets = query_BTHK[0], self.metadata.buckets
        if isinstance(buckets, QueryTiles):
            slots = blocks.flatten(0, 1)
            return attend_tiles(buckets, query_NHK, slots[:, 0], slots[:, -1], scale)[None]
        outputs = [
            _attend_bucket(bucket, blocks, query_NHK[bucket.first : bucket.last], scale)
            for bucket in buckets
        ]
        return (outputs[0] if len(outputs) == 1 else torch.cat(outputs))[None]


def _attend_bucket(
    bucket: AttentionBucket, blocks: torch.Tensor, query_NHK: torch.Tensor, scale: float
) -> torch.Tensor:
    num_rows, head_dim = bucket.num_rows, query_NHK.shape[-1]
    num_heads, num_kv_heads = query_NHK.shape[1], blocks.shape[3]
    context_BS2GK = blocks.index_select(0, bucket.block_ids).view(num_rows, -1, *blocks.shape[2:])
    key_BGSK = context_BS2GK[:, :, 0].transpose(1, 2)
    value_BGSK = context_BS2GK[:, :, -1].transpose(1, 2)
    if bucket.pad_index is None:
        # One token a row: its heads of one KV group are that group's "query tokens".
        query_BGTK = query_NHK.reshape(num_rows, num_kv_heads, -1, head_dim)
        output_BGTK = F.scaled_dot_product_attention(
            query_BGTK, key_BGSK, value_BGSK, attn_mask=bucket.mask, scale=scale
        )
        return output_BGTK.reshape(num_rows, num_heads, head_dim)
    query_BTHK = query_NHK.index_select(0, bucket.pad_index).unflatten(0, (num_rows, -1))
    if num_kv_heads == 1:
        # A view for every head; `enable_gqa` may copy the one head's context instead.
        key_BGSK = key_BGSK.expand(-1, num_heads, -1, -1)
        value_BGSK = value_BGSK.expand(-1, num_heads, -1, -1)
    output_BHTK = F.scaled_dot_product_attention(
        query_BTHK.transpose(1, 2),
        key_BGSK,
        value_BGSK,
        attn_mask=bucket.mask,
        scale=scale,
        enable_gqa=num_heads != key_BGSK.shape[1],
    )
    assert bucket.unpad_index is not None
    return output_BHTK.transpose(1, 2).flatten(0, 1).index_select(0, bucket.unpad_index)
