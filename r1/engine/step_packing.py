"""A step's tokens in one row: where they come from, are written to, and what they read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from r1.engine.input_batch import InputBatch
from r1.engine.kv_cache import AttentionBucket, AttentionMetadata, PagedKVCache
from r1.engine.paged_attention import PagedPlan, plan_pages
from r1.engine.spans import Spans, joined
from r1.engine.tiled_attention import TiledPlan, continue_plan, plan_tiles
from r1.kernels.on_gpu import tile_tokens
from r1.models.attention import steps_within
from r1.models.exact_attention import QueryTiles

# Decoding rows are sorted by length and attend in buckets of this many, so that few
# rows are padded to the longest of all.
DECODE_BUCKET_ROWS = 64
# Bounds the attention mask of a prefill bucket (rows x query tokens x key tokens).
MAX_PREFILL_SCORES = 2**22


@dataclass(frozen=True, slots=True)
class PackedStep:
    """N packed tokens: their slots and positions, int64 [N] each, and the cache's part.

    `firsts` are the packed places where the spans begin, in the order that they were given.
    """

    slots: np.ndarray
    positions: np.ndarray
    firsts: np.ndarray
    write_slots: torch.Tensor
    metadata: AttentionMetadata | TiledPlan | PagedPlan


class StepPacker:
    """Packs spans of the input batch for the model of a cache."""

    def __init__(
        self, input_batch: InputBatch, kv_cache: PagedKVCache, is_exact: bool = False
    ) -> None:
        self.input_batch = input_batch
        self.block_size = input_batch.block_size
        self.kv_cache = kv_cache
        self.is_exact = is_exact
        self.dtype, self.device = kv_cache.layers[0].dtype, kv_cache.layers[0].device
        # The last decode step's rows, and their places in it.
        self._decoded: tuple[Spans, TiledPlan] | None = None

    def pack(self, *groups: Spans) -> PackedStep:
        """Groups that differ in kind (decode, prefill) attend apart.

        Each is sorted by context where they attend in buckets.
        """
        is_tiled = self.kv_cache.tiled is not None
        filled = [spans for spans in groups if len(spans.slots)]
        if is_tiled and len(filled) == 1 and (filled[0].lengths == 1).all():
            return self._pack_decode(filled[0])
        self._decoded = None
        orders = [
            np.arange(len(spans.slots)) if is_tiled else np.lexsort((spans.starts, spans.stops))
            for spans in groups
        ]
        slots, positions, firsts, parts, first = [], [], [], [], 0
        for order, spans in zip(orders, groups, strict=True):
            spans = spans.take(order)
            ends = first + np.cumsum(spans.lengths)
            begins = np.empty(len(order), np.int64)
            begins[order] = ends - spans.lengths
            firsts.append(begins)
            slots.append(np.repeat(spans.slots, spans.lengths))
            starts = np.repeat(spans.starts, spans.lengths)
            positions.append(starts + steps_within(spans.lengths))
            parts.append((first, spans))
            first += len(slots[-1])
        packed_slots, packed_positions = np.concatenate(slots), np.concatenate(positions)
        block_ids = self.input_batch.block_table[packed_slots, packed_positions // self.block_size]
        write_slots = block_ids * self.block_size + packed_positions % self.block_size
        device_slots = self.to_device(write_slots)
        if is_tiled:
            table, ratio = self.input_batch.block_table, self.kv_cache.num_heads_per_group
            metadata = plan_tiles(write_slots, parts, table, self.block_size, ratio)
        elif self.is_exact:
            spans = joined([spans for _, spans in parts])
            metadata = AttentionMetadata(device_slots, self._query_tiles(spans))
        elif self.kv_cache.paged is not None:
            table = self.input_batch.block_table
            num_tokens = tile_tokens(self.kv_cache.num_heads_per_group, self.dtype)
            metadata = plan_pages(write_slots, parts, table, self.block_size, num_tokens)
        else:
            buckets = [bucket for part in parts for bucket in self._buckets(*part)]
            metadata = AttentionMetadata(device_slots, buckets)
        return PackedStep(
            packed_slots, packed_positions, np.concatenate(firsts), device_slots, metadata
        )

    def _pack_decode(self, spans: Spans) -> PackedStep:
        """A token of each row: in their order, by the last step's plan where that goes on."""
        slots, positions, table = spans.slots, spans.starts, self.input_batch.block_table
        block_ids = table[slots, positions // self.block_size]
        write_slots = block_ids * self.block_size + positions % self.block_size
        plan = None
        if self._decoded is not None:
            before, plan = self._decoded
            width = plan.tables.shape[1]
            is_next = (
                np.array_equal(before.slots, slots)
                and np.array_equal(before.stops, positions)
                and spans.stops.max() <= width * self.block_size
            )
            tables = table[slots, :width]
            plan = continue_plan(plan, write_slots, tables, positions + 1) if is_next else None
        if plan is None:
            ratio = self.kv_cache.num_heads_per_group
            plan = plan_tiles(write_slots, [(0, spans)], table, self.block_size, ratio)
        self._decoded = spans, plan
        firsts, device_slots = np.arange(len(slots)), self.to_device(write_slots)
        return PackedStep(slots, positions, firsts, device_slots, plan)

    def to_device(self, array: np.ndarray) -> torch.Tensor:
        """The array where the model is."""
        return torch.from_numpy(array).to(self.device, non_blocking=True)

    def _query_tiles(self, spans: Spans) -> QueryTiles:
        steps = np.arange(int(spans.stops.max()))
        block_ids = self.input_batch.block_table[spans.slots][:, steps // self.block_size]
        key_slots = block_ids * self.block_size + steps % self.block_size
        return QueryTiles.of(spans.starts, spans.stops, key_slots, self.device)

    def _buckets(self, first: int, spans: Spans) -> list[AttentionBucket]:
        if (spans.lengths == 1).all():
            return [
                self._decode_bucket(first + i, spans.take(slice(i, i + DECODE_BUCKET_ROWS)))
                for i in range(0, len(spans.slots), DECODE_BUCKET_ROWS)
            ]
        buckets, start = [], 0
        for stop in _bucket_ends(spans.lengths.tolist(), spans.stops.tolist()):
            buckets.append(self._prefill_bucket(first, spans.take(slice(start, stop))))
            first, start = buckets[-1].last, stop
        return buckets

    def _decode_bucket(self, first: int, spans: Spans) -> AttentionBucket:
        """Rows of one token, sorted by length; each sees its own tokens 0..stop."""
        block_ids, num_keys = self._read_blocks(spans)
        mask_BS = self._mask(np.arange(num_keys) < spans.stops[:, None])
        num_rows = len(spans.slots)
        return AttentionBucket(first, first + num_rows, num_rows, block_ids, mask_BS[:, None, None])

    def _prefill_bucket(self, first: int, spans: Spans) -> AttentionBucket:
        lengths = spans.lengths
        block_ids, num_keys = self._read_blocks(spans)
        steps = np.arange(lengths.max())
        is_real = steps < lengths[:, None]
        # A padded query repeats its row's last token; its output is dropped.
        steps = np.minimum(steps, lengths[:, None] - 1)
        offsets = np.cumsum(lengths) - lengths
        query_positions = spans.starts[:, None] + steps
        mask_BTS = self._mask(np.arange(num_keys) <= query_positions[:, :, None])
        return AttentionBucket(
            first,
            first + int(lengths.sum()),
            len(spans.slots),
            block_ids,
            mask_BTS[:, None],
            self.to_device((offsets[:, None] + steps).ravel()),
            self.to_device(np.flatnonzero(is_real)),
        )

    def _read_blocks(self, spans: Spans) -> tuple[torch.Tensor, int]:
        """Block ids that cover each span's context, flat, and how many tokens they hold."""
        num_blocks = -(-int(spans.stops.max()) // self.block_size)
        block_ids = self.input_batch.block_table[spans.slots, :num_blocks]
        return self.to_device(block_ids.ravel()), num_blocks * self.block_size

    def _mask(self, is_visible: np.ndarray) -> torch.Tensor:
        visible = self.to_device(is_visible)
        return torch.zeros(visible.shape, dtype=self.dtype, device=self.device).masked_fill_(
            ~visible, -torch.inf
        )


def _bucket_ends(lengths: Sequence[int], stops: Sequence[int]) -> list[int]:
    """Where buckets of consecutive spans (sorted by context) end: bounded padding and mask."""
    ends, start, longest = [], 0, 0
    for index, (length, stop) in enumerate(zip(lengths, stops, strict=True)):
        longest = max(longest, length)
        scores = (index + 1 - start) * longest * stop
        if index > start and (scores > MAX_PREFILL_SCORES or 2 * stops[start] < stop):
            ends.append(index)
            start, longest = index, length
    return [*ends, len(stops)] if len(stops) else []
