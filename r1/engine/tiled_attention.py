"""A KV cache in the C kernels' layout, and the plan by which a step attends to it.

Each key and value is read once for all that see it at the same time: the heads of a KV
group, the tokens of a prompt's chunk, and the replies to one prompt over what they share.
Shared keys are found in the block tables themselves, at several depths where a common system
prompt precedes the prompts (as in Hydragen, arXiv:2402.05099, and cascade inference). A query
goes on from its softmax over the shared part, so it makes the same additions, to the last bit,
as alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from r1.engine.spans import Spans, joined
from r1.kernels.fused import (
    MAX_HEAD_DIM,
    MAX_QUERIES,
    TILE_TOKENS,
    Kernels,
    inference_kernels_for,
    kernels_of,
)
from r1.kernels.layers import LayerWeights
from r1.models.attention import steps_within
from r1.models.model_config import ModelConfig

# As in kernels/vectors.h: keys of one softmax step.
CHUNK = 64

_IS_KEPT, _IS_CONTINUED = 1, 2


@dataclass(frozen=True, slots=True)
class TiledPlan:
    """What `r1_attend` of attention.h reads: arrays of int64, the same for all layers.

    `write_slots` [N] are where the step's packed tokens go.
    """

    write_slots: np.ndarray
    tables: np.ndarray
    items: np.ndarray
    phases: np.ndarray
    limits: np.ndarray
    num_states: int


def tiled_kernels(
    config: ModelConfig, block_size: int, dtype: torch.dtype, device: torch.device
) -> Kernels | None:
    """The kernels if this cache can be in their layout."""
    num_parts, _, head_dim = config.kv_entry_shape
    is_shape_fit = num_parts == 2 and head_dim % TILE_TOKENS == 0 and head_dim <= MAX_HEAD_DIM
    if device.type != "cpu" or block_size % TILE_TOKENS or not is_shape_fit:
        return None
    return kernels_of(dtype)


def plan_tiles(
    write_slots: np.ndarray,
    groups: list[tuple[int, Spans]],
    block_table: np.ndarray,
    block_size: int,
    num_heads_per_group: int,
) -> TiledPlan:
    """Plan spans whose packed tokens begin at the number before them, decode and prefill apart."""
    spans = joined([spans for _, spans in groups])
    firsts = np.concatenate([first + np.cumsum(s.lengths) - s.lengths for first, s in groups])
    num_blocks = -(-int(spans.stops.max(initial=1)) // block_size)
    tables = np.ascontiguousarray(block_table[spans.slots, :num_blocks])
    shared = _SharedItems(tables, spans, firsts, block_size)
    # A span of many tokens is cut so that its queries fit the kernel's registers and cache.
    step = max(1, MAX_QUERIES // num_heads_per_group)
    counts = -(-spans.lengths // step)
    row = np.repeat(np.arange(len(counts)), counts)
    begins = steps_within(counts) * step
    ends = np.minimum(begins + step, spans.lengths[row])
    starts = shared.depths[row]
    items = np.stack(
        (
            firsts[row] + begins,
            firsts[row] + ends,
            row * num_blocks,
            starts,
            spans.starts[row] + ends,
            np.where(starts > 0, _IS_CONTINUED, 0),
        ),
        1,
    )
    # The longest first: what is left to the end is short, and all threads end together. Those
    # of a span in turn: they find its keys in a core's own cache.
    cost = (items[:, 4] - items[:, 3]) * (ends - begins)
    most = np.zeros(len(counts), np.int64)
    np.maximum.at(most, row, cost)
    items = items[np.lexsort((-cost, row, -most[row]))]
    limits = np.repeat(spans.starts, spans.lengths) + steps_within(spans.lengths) + 1
    phases = np.cumsum([0, *map(len, shared.levels), len(items)])
    levels = [np.array(level, np.int64) for level in shared.levels]
    # Levels cover each other, so the first has the last token that needs a state.
    num_states = int(levels[0][:, 1].max()) if levels else 0
    items = np.concatenate([*levels, items])
    return TiledPlan(write_slots, tables, items, phases, limits, num_states)


def continue_plan(
    plan: TiledPlan, write_slots: np.ndarray, tables: np.ndarray, limits: np.ndarray
) -> TiledPlan | None:
    """The next step's plan where every span of `plan` was one token and has gone on by one.

    None where the block tables have changed. The order of the items, and how deep shared keys
    are read together, stay: neither is in the results.
    """
    if not np.array_equal(tables, plan.tables):
        return None
    items = plan.items.copy()
    items[plan.phases[-2] :, 4] += 1
    return TiledPlan(write_slots, plan.tables, items, plan.phases, limits, plan.num_states)


class _SharedItems:
    """Items over keys that neighbouring spans of one token share, level by level.

    `depths` [spans] is how many keys of each are done when all levels are.
    """

    def __init__(
        self, tables: np.ndarray, spans: Spans, firsts: np.ndarray, block_size: int
    ) -> None:
        self.firsts, self.width = firsts, tables.shape[1]
        self.levels: list[list[tuple[int, ...]]] = []
        self.depths = np.zeros(len(tables), np.int64)
        is_same = np.logical_and.accumulate(tables[1:] == tables[:-1], axis=1)
        common = is_same.sum(1) * block_size
        # Nobody's own last key, and nothing before spans of several tokens.
        last = np.where(spans.lengths == 1, spans.starts, 0)
        common = np.minimum(common, np.minimum(last[1:], last[:-1])) // CHUNK * CHUNK
        for begin, end in _runs(common > 0):
            self._descend(common, begin, end + 1, 0, 0)

    def _descend(self, common: np.ndarray, begin: int, end: int, depth: int, level: int) -> None:
        """Spans begin..end have `depth` keys behind them and more in common."""
        inside = common[begin : end - 1]
        shared = int(inside.min())
        if level == len(self.levels):
            self.levels.append([])
        flags = _IS_KEPT | (_IS_CONTINUED if depth else 0)
        # Packed tokens of neighbouring spans of one token each are neighbours too.
        first, last = int(self.firsts[begin]), int(self.firsts[end - 1]) + 1
        self.levels[level].append((first, last, begin * self.width, depth, shared, flags))
        self.depths[begin:end] = shared
        for start, stop in _runs(inside > shared):
            self._descend(common, begin + start, begin + stop + 1, shared, level + 1)


def _runs(mask: np.ndarray) -> list[tuple[int, int]]:
    """Where runs of True begin and end."""
    edges = np.flatnonzero(np.diff(mask, prepend=False, append=False))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


@dataclass(frozen=True, slots=True)
class BoundTiledCache:
    """The cache as one step's forward sees it (the models' `KVCache` protocol).

    `wanted`: the packed tokens whose hidden states are read, all if None.
    """

    kernels: Kernels
    layers: list[torch.Tensor]
    addresses: np.ndarray
    plan: TiledPlan
    wanted: np.ndarray | None = None

    def run_layers(
        self,
        hidden_BTD: torch.Tensor,
        rotation: tuple[torch.Tensor, torch.Tensor],
        weights: LayerWeights,
    ) -> torch.Tensor | None:
        """All layers of a model at once, where that is faster; else None.

        The hidden states are overwritten. Of those that come back the unwanted are 0: the last
        layer computes only keys and values of these tokens.
        """
        kernels = inference_kernels_for(hidden_BTD)
        num_tokens, hidden_size = hidden_BTD.shape[1:]
        if kernels is None or num_tokens > kernels.max_rows:
            return None
        plan, out, wanted = self.plan, torch.zeros_like(hidden_BTD), np.arange(num_tokens)
        if self.wanted is not None:
            wanted = np.unique(self.wanted)
        _, tiles_per_block, num_groups = self.layers[0].shape[:3]
        sizes = (len(weights.table), hidden_size, weights.num_heads, num_groups)
        sizes += (rotation[0].shape[-1], weights.inner_size, weights.bits, num_tokens, len(wanted))
        sizes += (0 if weights.is_exact else kernels.max_dot_rows, tiles_per_block)
        sizes += (len(plan.phases) - 1, plan.num_states, weights.is_exact)
        shape = np.array((*sizes, torch.get_num_threads()), np.int64)
        step = (plan.write_slots, plan.tables, plan.items, plan.phases, plan.limits, wanted)
        kernels.c_layers(
            out.data_ptr(),
            hidden_BTD.data_ptr(),
            *(array.ctypes.data for array in (weights.table, self.addresses)),
            weights.final_norm,
            shape.ctypes.data,
            *(part.data_ptr() for part in rotation),
            *(array.ctypes.data for array in step),
            weights.eps,
            weights.scale,
        )
        return out

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
        plan, tiles = self.plan, self.layers[layer]
        query_NHK = query_BTHK[0].contiguous()
        num_tokens, num_heads, head_dim = query_NHK.shape
        _, tiles_per_block, num_groups = tiles.shape[:3]
        key, value = key_BTGK[0], value_BTGK[0]
        assert key.stride()[1:] == value.stride()[1:] == (head_dim, 1)
        self.kernels.c_write_cache(
            tiles.data_ptr(),
            key.data_ptr(),
            value.data_ptr(),
            key.stride(0),
            value.stride(0),
            plan.write_slots.ctypes.data,
            num_tokens,
            num_groups,
            head_dim,
            torch.get_num_threads(),
        )
        out = torch.empty_like(query_NHK)
        self.kernels.c_attend(
            out.data_ptr(),
            query_NHK.data_ptr(),
            tiles.data_ptr(),
            plan.tables.ctypes.data,
            plan.items.ctypes.data,
            plan.phases.ctypes.data,
            len(plan.phases) - 1,
            plan.limits.ctypes.data,
            plan.num_states,
            num_heads,
            num_groups,
            head_dim,
            tiles_per_block,
            scale,
            torch.get_num_threads(),
        )
        return out[None]
