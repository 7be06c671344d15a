"""A step over the paged KV cache on a GPU: no mask, no padding, no copy of a context.

Queries meet the cache's blocks where they lie (`kernels/triton_attention`): decoding rows one
by one, prompts in tiles of a few tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from r1.engine.spans import Spans, joined
from r1.kernels.on_gpu import Tiles, gpu_kernels
from r1.models.attention import steps_within
from r1.models.model_config import ModelConfig

if TYPE_CHECKING:
    from r1.kernels.triton_layers import GpuKernels

_MAX_HEAD_DIM = 256


@dataclass(frozen=True, slots=True)
class PagedPlan:
    """Where a step's packed tokens are written (flat cache slots [N]) and what they read.

    `launches` are the items of `Tiles` and their tokens at most, of decoding and of prefill.
    """

    write_slots: np.ndarray
    tables: np.ndarray
    launches: tuple[tuple[np.ndarray, int], ...]

    @property
    def is_decode(self) -> bool:
        """Whether every packed token is the only one of its sequence."""
        return len(self.launches) == 1 and self.launches[0][1] == 1


def paged_kernels(
    config: ModelConfig, dtype: torch.dtype, device: torch.device
) -> GpuKernels | None:
    """The kernels where they attend: on a GPU that has them, to keys and values by head."""
    num_parts, _, head_dim = config.kv_entry_shape
    is_shape_fit = num_parts == 2 and head_dim <= _MAX_HEAD_DIM and dtype.itemsize <= 4
    return gpu_kernels(device) if is_shape_fit and device.type == "cuda" else None


def plan_pages(
    write_slots: np.ndarray,
    groups: list[tuple[int, Spans]],
    block_table: np.ndarray,
    block_size: int,
    tile_tokens: int,
) -> PagedPlan:
    """Plan spans whose packed tokens begin at the number before them, decode and prefill apart."""
    spans = joined([spans for _, spans in groups])
    num_blocks = -(-int(spans.stops.max()) // block_size)
    tables = block_table[spans.slots, :num_blocks].astype(np.int32)
    launches, first_row = [], 0
    for first, part in groups:
        lengths = part.lengths
        step = 1 if (lengths == 1).all() else tile_tokens
        counts = -(-lengths // step)
        row, begins = np.repeat(np.arange(len(lengths)), counts), steps_within(counts) * step
        tokens = first + (np.cumsum(lengths) - lengths)[row] + begins
        sizes = np.minimum(step, lengths[row] - begins)
        items = np.stack((tokens, sizes, first_row + row, part.starts[row] + begins), 1)
        # The longest first: what is left to the end is short.
        items = items[np.argsort(-items[:, 3], kind="stable")].astype(np.int32)
        if len(items):
            launches.append((items, step))
        first_row += len(lengths)
    return PagedPlan(write_slots, tables, tuple(launches))


@dataclass(frozen=True, slots=True)
class BoundPagedCache:
    """The cache as one step's forward sees it (the models' `KVCache` protocol)."""

    kernels: GpuKernels
    layers: list[torch.Tensor]
    write_slots: torch.Tensor
    tiles: list[Tiles]

    @classmethod
    def of(
        cls, kernels: GpuKernels, layers: list[torch.Tensor], plan: PagedPlan
    ) -> BoundPagedCache:
        """With the plan brought to where the cache is."""
        arrays = [plan.write_slots, plan.tables, *(items for items, _ in plan.launches)]
        device = layers[0].device
        on_device = [torch.from_numpy(array).to(device, non_blocking=True) for array in arrays]
        write_slots, tables, *items = on_device
        sizes = [num_tokens for _, num_tokens in plan.launches]
        tiles = [Tiles(part, tables, size) for part, size in zip(items, sizes, strict=True)]
        return cls(kernels, layers, write_slots, tiles)

    def attend(
        self,
        layer: int,
        query_BTHK: torch.Tensor,
        key_BTGK: torch.Tensor,
        value_BTGK: torch.Tensor | None,
        scale: float,
    ) -> torch.Tensor:
        """Write the step's keys and values, then attend; returns [1, N, H, K]."""
        assert value_BTGK is not None
        blocks = self.layers[layer]
        self.kernels.store(blocks, self.write_slots, key_BTGK[0], value_BTGK[0])
        query_NHK = query_BTHK[0].contiguous()
        return self.kernels.attend(query_NHK, blocks, self.tiles, scale)[None]
