"""Causal attention whose every output has the same bits, whatever is computed beside it.

A query meets the keys of its sequence in blocks of 64 that start at multiples of 64, in
the order of their positions, with an online softmax (Milakov & Gimelshein 2018,
arXiv:1805.02867). The matrix products have one fixed shape: queries in tiles of 4 tokens,
keys in whole blocks. A block that a query does not see changes none of its bits: its
probabilities are exactly 0 and the rescaling exactly 1. Where the keys lie is an index, so
one function serves packed rows and a paged cache. All sums are in fp32.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from r1.kernels.fused import MAX_HEAD_DIM, MAX_QUERIES, TILE_TOKENS, Kernels, kernels_of
from r1.models.attention import AttentionPlan, segment_attention, steps_within
from r1.models.replaced_value import with_gradient_of

KEY_BLOCK = 64
QUERY_TILE = 4
# Tiles computed at once: bounds the memory. On a GPU always as many, because cuBLAS may
# choose another kernel for another number of products.
TILES_AT_ONCE = 64
_CACHE_LINE_BYTES = 64


@dataclass(frozen=True, slots=True)
class QueryTiles:
    """Which tokens attend together, and where their keys are.

    For each of the tiles, longest context first: `tokens` and `positions` [tiles, 4], and
    `key_slots` [tiles, S], where the key of each position is. `num_key_blocks` [tiles] are
    those it sees; `places` [N] is where each token's output stands.
    """

    tokens: Tensor
    positions: Tensor
    key_slots: Tensor
    places: Tensor
    num_key_blocks: tuple[int, ...]

    @classmethod
    def of(
        cls, starts: np.ndarray, stops: np.ndarray, key_slots: np.ndarray, device: torch.device
    ) -> QueryTiles:
        """Spans of tokens, one after another: positions starts..stops of a sequence each.

        `key_slots` [spans, longest stop] is padded with any valid place.
        """
        lengths = stops - starts
        counts = -(-lengths // QUERY_TILE)
        span = np.repeat(np.arange(len(starts)), counts)
        within = steps_within(counts)
        last_blocks = (starts[span] + (within + 1) * QUERY_TILE - 1) // KEY_BLOCK
        order = np.argsort(-last_blocks, kind="stable")
        num_tiles = len(order)
        if device.type == "cuda":
            order = np.pad(order, (0, -num_tiles % TILES_AT_ONCE), mode="edge")
        span, within = span[order], within[order]
        steps = within[:, None] * QUERY_TILE + np.arange(QUERY_TILE)
        is_real = steps < lengths[span, None]
        is_real[num_tiles:] = False
        # What fills up a tile repeats the span's last token; its output is dropped.
        steps = np.minimum(steps, lengths[span, None] - 1)
        tokens = (np.cumsum(lengths) - lengths)[span, None] + steps
        positions = starts[span, None] + steps
        places = np.empty(int(lengths.sum()), np.int64)
        places[tokens[is_real]] = np.flatnonzero(is_real)
        num_blocks = positions[:, -1] // KEY_BLOCK + 1
        missing = max(0, int(num_blocks.max()) * KEY_BLOCK - key_slots.shape[1])
        key_slots = np.pad(key_slots, ((0, 0), (0, missing)))[span]
        arrays = (tokens, positions, key_slots, places)
        on_device = (torch.from_numpy(array).to(device) for array in arrays)
        return cls(*on_device, num_key_blocks=tuple(num_blocks.tolist()))


@torch.no_grad()
def attend_tiles(
    tiles: QueryTiles, query_NHK: Tensor, key_SGK: Tensor, value_SGK: Tensor, scale: float
) -> Tensor:
    """Outputs [N, H, K] of the tiles' tokens; keys and values lie at any S places."""
    outputs = []
    for first in range(0, len(tiles.tokens), TILES_AT_ONCE):
        part = slice(first, first + TILES_AT_ONCE)
        num_blocks = max(tiles.num_key_blocks[part])
        # [tiles, tokens, G, heads of a group, K] to one product a tile and group.
        query = whole_cache_lines(query_NHK[tiles.tokens[part]].float())
        query = query.unflatten(2, (key_SGK.shape[1], -1))
        output = _attend(
            query.transpose(1, 2).flatten(2, 3).flatten(0, 1),
            tiles.positions[part],
            tiles.key_slots[part, : num_blocks * KEY_BLOCK],
            (key_SGK, value_SGK),
            scale,
        )
        output = output.view(len(query), -1, QUERY_TILE, *query.shape[3:]).transpose(1, 2)
        outputs.append(output.flatten(2, 3).flatten(0, 1)[..., : query_NHK.shape[2]])
    return torch.cat(outputs).index_select(0, tiles.places).to(query_NHK.dtype)


def whole_cache_lines(rows: Tensor) -> Tensor:
    """Rows [..., I] filled up with zeros: off a line, a product may depend on where they begin."""
    missing = -rows.shape[-1] % (_CACHE_LINE_BYTES // rows.element_size())
    return F.pad(rows, (0, missing)) if missing else rows


def _attend(
    query_PMK: Tensor,
    positions_CQ: Tensor,
    key_slots_CS: Tensor,
    key_value: tuple[Tensor, Tensor],
    scale: float,
) -> Tensor:
    """P = C tiles x G groups products; M rows = tokens of a tile x heads of a group."""
    num_groups, num_rows = len(query_PMK) // len(positions_CQ), query_PMK.shape[1]
    positions_PM = positions_CQ.repeat_interleave(num_rows // QUERY_TILE, 1)
    positions_PM = positions_PM.repeat_interleave(num_groups, 0)
    highest = query_PMK.new_full((*query_PMK.shape[:2], 1), -torch.inf)
    total, mixed = torch.zeros_like(highest), torch.zeros_like(query_PMK)
    steps = torch.arange(KEY_BLOCK, device=query_PMK.device)
    for first in range(0, key_slots_CS.shape[1], KEY_BLOCK):
        slots = key_slots_CS[:, first : first + KEY_BLOCK]
        # [C, 64, G, K] to [P, 64, K].
        key, value = (
            whole_cache_lines(part[slots].float()).transpose(1, 2).flatten(0, 1)
            for part in key_value
        )
        scores = torch.bmm(query_PMK, key.transpose(1, 2)) * scale
        scores.masked_fill_(first + steps > positions_PM[..., None], -torch.inf)
        peak = torch.maximum(highest, scores.amax(-1, keepdim=True))
        shrink, probs = torch.exp(highest - peak), torch.exp(scores - peak)
        total = total * shrink + probs.sum(-1, keepdim=True)
        mixed = mixed * shrink + torch.bmm(probs, value)
        highest = peak
    return mixed / total


@dataclass(frozen=True, slots=True)
class TiledSegments:
    """Segments as sequences of a cache in the C kernel's layout (see kernels/attention.h)."""

    write_slots: np.ndarray
    tables: np.ndarray
    items: np.ndarray
    phases: np.ndarray
    limits: np.ndarray

    @classmethod
    def of(cls, starts: np.ndarray, stops: np.ndarray, num_heads_per_group: int) -> TiledSegments:
        """Spans one after another as for `QueryTiles`, each of a sequence of its own."""
        num_tiles = -(-stops // TILE_TOKENS)
        first_tiles = np.cumsum(num_tiles) - num_tiles
        lengths = stops - starts
        # As many queries as share what they read.
        step = max(1, MAX_QUERIES // num_heads_per_group)
        counts = -(-lengths // step)
        span = np.repeat(np.arange(len(starts)), counts)
        begins = steps_within(counts) * step
        ends = np.minimum(begins + step, lengths[span])
        firsts = (np.cumsum(lengths) - lengths)[span]
        keys = starts[span] + ends
        zeros = np.zeros_like(span)
        items = np.stack((firsts + begins, firsts + ends, first_tiles[span], zeros, keys, zeros), 1)
        return cls(
            write_slots=np.repeat(first_tiles * TILE_TOKENS, stops) + steps_within(stops),
            tables=np.arange(num_tiles.sum()),
            items=items[np.argsort(-keys * (ends - begins), kind="stable")],
            phases=np.array([0, len(items)]),
            limits=np.repeat(starts, lengths) + steps_within(lengths) + 1,
        )

    def attend(
        self, kernels: Kernels, query_NHK: Tensor, key_MGK: Tensor, value_MGK: Tensor, scale: float
    ) -> Tensor:
        """Outputs [N, H, K]; keys and values are those of each sequence, one after another."""
        query, key, value = (t.contiguous() for t in (query_NHK, key_MGK, value_MGK))
        num_keys, num_groups, head_dim = key.shape
        num_threads = torch.get_num_threads()
        # Zeros: what is masked is multiplied by 0, and must be finite.
        tiles = query.new_zeros(len(self.tables), num_groups, 2, TILE_TOKENS, head_dim)
        out = torch.empty_like(query)
        kernels.c_write_cache(
            tiles.data_ptr(),
            key.data_ptr(),
            value.data_ptr(),
            key.stride(0),
            value.stride(0),
            self.write_slots.ctypes.data,
            num_keys,
            num_groups,
            head_dim,
            num_threads,
        )
        kernels.c_attend(
            out.data_ptr(),
            query.data_ptr(),
            tiles.data_ptr(),
            self.tables.ctypes.data,
            self.items.ctypes.data,
            self.phases.ctypes.data,
            1,
            self.limits.ctypes.data,
            0,
            query.shape[1],
            num_groups,
            head_dim,
            1,
            scale,
            num_threads,
        )
        return out


class ExactPlan:
    """Attention of a packed row with the bits of the engine's; attends as a `KVCache` does.

    A segment behind a prefix is a sequence that begins with the prefix's tokens.
    """

    def __init__(self, plan: AttentionPlan) -> None:
        lengths, prefixes = np.array(plan.lengths), np.array(plan.prefixes)
        first_tokens = np.cumsum(lengths) - lengths
        self.plan = plan
        self.starts = np.where(prefixes < 0, 0, lengths[prefixes])
        self.stops = self.starts + lengths
        own = np.repeat(first_tokens - self.starts, self.stops)
        of_prefix = np.repeat(first_tokens[prefixes], self.stops)
        steps = steps_within(self.stops)
        is_before = steps < np.repeat(self.starts, self.stops)
        self.key_tokens = np.where(is_before, of_prefix, own) + steps
        self._tiled: TiledSegments | None = None

    def attend(
        self,
        layer: int,
        query_BTHK: Tensor,
        key_BTGK: Tensor,
        value_BTGK: Tensor | None,
        scale: float,
    ) -> Tensor:
        """Attend within segments and to their prefixes; returns [B, T, H, K]."""
        assert value_BTGK is not None, "exact mode refuses latent attention"

        def compute(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            parts = (part.flatten(0, 1) for part in (query, key, value))
            return self._attend(*parts, scale=scale).view(query.shape)

        def reference(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            return segment_attention(self.plan, query, key, value, scale)

        return with_gradient_of(reference, compute, query_BTHK, key_BTGK, value_BTGK)

    def _attend(
        self, query_NHK: Tensor, key_NGK: Tensor, value_NGK: Tensor, scale: float
    ) -> Tensor:
        kernels = attention_kernels(query_NHK)
        if kernels is None:
            return attend_tiles(self._query_tiles, query_NHK, key_NGK, value_NGK, scale)
        if self.starts.any():
            index = torch.from_numpy(self.key_tokens)
            key_NGK, value_NGK = key_NGK[index], value_NGK[index]
        if self._tiled is None:
            ratio = query_NHK.shape[1] // key_NGK.shape[1]
            self._tiled = TiledSegments.of(self.starts, self.stops, ratio)
        return self._tiled.attend(kernels, query_NHK, key_NGK, value_NGK, scale)

    @functools.cached_property
    def _query_tiles(self) -> QueryTiles:
        key_slots = np.zeros((len(self.stops), self.stops.max()), np.int64)
        key_slots[np.arange(self.stops.max()) < self.stops[:, None]] = self.key_tokens
        return QueryTiles.of(self.starts, self.stops, key_slots, torch.device(self.plan.device))


def attention_kernels(query_NHK: Tensor) -> Kernels | None:
    """The C kernels, where they attend in exact mode."""
    head_dim = query_NHK.shape[-1]
    if query_NHK.device.type != "cpu" or head_dim % TILE_TOKENS or head_dim > MAX_HEAD_DIM:
        return None
    return kernels_of(query_NHK.dtype)
