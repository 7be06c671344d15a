"""Attention over a paged KV cache on a GPU, and the store into it, in Triton.

One kernel serves decoding and prefill. A tile is a few tokens of one sequence times the query
heads that share a KV head, so that keys and values are read once for all of them (as in the
unified kernel of vLLM, `triton_unified_attention.py`), through the block table, with an online
softmax in fp32. Few sequences do not fill a GPU: then the context is split among programs and
a second kernel joins their parts (flash-decoding, Dao et al. 2023). How many there are never
hangs on lengths, which change while a recorded step is replayed.

Imported only where triton is; the interpreter (TRITON_INTERPRET=1) runs all of it on a CPU.
"""

# A launch takes numbers for constants, and settings of the compiler: its type does not say so.
# pyright: reportArgumentType=false, reportCallIssue=false, reportOperatorIssue=false
from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from r1.kernels.on_gpu import Tiles

# Keys and values of one step of the softmax, each: two stages of both fit a small GPU's core.
_STEP_BYTES = 16384
_MAX_STEP_KEYS = 64
_MAX_SPLITS = 32


@triton.jit
def _store(
    blocks, slots, key, value, key_stride, value_stride, SIZE: tl.constexpr, WIDTH: tl.constexpr
):
    """One program a token: its keys and values of all groups, side by side."""
    token = tl.program_id(0).to(tl.int64)
    slot = tl.load(slots + token).to(tl.int64)
    index = tl.arange(0, WIDTH)
    is_written = index < tl.where(slot >= 0, SIZE, 0)
    place = blocks + slot * (2 * SIZE) + index
    tl.store(place, tl.load(key + token * key_stride + index, is_written), is_written)
    tl.store(place + SIZE, tl.load(value + token * value_stride + index, is_written), is_written)


@triton.jit
def _item(items, item):
    """First token, how many, row of the block tables (int64), position of the first."""
    place = items + item * 4
    row = tl.load(place + 2).to(tl.int64)
    return tl.load(place), tl.load(place + 1), row, tl.load(place + 3)


@triton.jit
def _add(scores, values, highest, total, mixed, PRECISION: tl.constexpr):
    """The online softmax goes on by some keys."""
    peak = tl.maximum(highest, tl.max(scores, 1))
    # A token at the head of its tile may see no key of a split: then nothing is added.
    lowered = tl.where(peak == float("-inf"), 0.0, peak)
    probs, shrink = tl.exp2(scores - lowered[:, None]), tl.exp2(highest - lowered)
    mixed = mixed * shrink[:, None]
    mixed = tl.dot(probs.to(values.dtype), values, mixed, input_precision=PRECISION)
    return peak, total * shrink + tl.sum(probs, 1), mixed


@triton.jit
def _attend(
    out, sums, query, blocks, tables, items, table_width, scale,
    BLOCK_SIZE: tl.constexpr, GROUPS: tl.constexpr, SHARED: tl.constexpr, HEAD_DIM: tl.constexpr,
    WIDTH: tl.constexpr, ROWS: tl.constexpr, KEYS: tl.constexpr, SPLITS: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """One program an item, KV group and split; SHARED heads of a group are rows of the tile.

    `scale` is for exponentials of base 2. With one split `out` gets the outputs; with more,
    each split's own in fp32, and `sums` the base-2 logarithm of its probabilities' sum.
    """
    item, group, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    token, count, table, position = _item(items, item)
    step = tl.arange(0, ROWS) // SHARED
    head = group * SHARED + tl.arange(0, ROWS) % SHARED
    dim = tl.arange(0, WIDTH)
    is_dim = dim < HEAD_DIM
    is_real = (step < count)[:, None] & is_dim[None, :]
    rows = (token + step).to(tl.int64) * (GROUPS * SHARED) + head
    places = rows[:, None] * HEAD_DIM + dim[None, :]
    tile = tl.load(query + places, is_real, 0.0)

    num_keys = tl.where(count > 0, position + count, 0)
    span = tl.cdiv(tl.cdiv(num_keys, SPLITS), KEYS) * KEYS
    highest = tl.full((ROWS,), float("-inf"), tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    mixed = tl.zeros((ROWS, WIDTH), tl.float32)
    for first in range(split * span, tl.minimum((split + 1) * span, num_keys), KEYS):
        key = first + tl.arange(0, KEYS)
        is_key = key < num_keys
        block = tl.load(tables + table * table_width + key // BLOCK_SIZE, is_key, 0).to(tl.int64)
        start = (block * BLOCK_SIZE + key % BLOCK_SIZE) * (2 * GROUPS * HEAD_DIM)
        is_read = is_key[:, None] & is_dim[None, :]
        place = blocks + group * HEAD_DIM + start[:, None] + dim[None, :]
        keys = tl.load(place, is_read, 0.0)
        scores = tl.dot(tile, tl.trans(keys), input_precision=PRECISION) * scale
        is_seen = key[None, :] <= (position + step)[:, None]
        scores = tl.where(is_seen, scores, float("-inf"))
        values = tl.load(place + GROUPS * HEAD_DIM, is_read, 0.0)
        highest, total, mixed = _add(scores, values, highest, total, mixed, PRECISION)
    safe = tl.where(total > 0, total, 1.0)
    mixed = mixed / safe[:, None]
    if SPLITS == 1:
        tl.store(out + places, mixed.to(out.dtype.element_ty), is_real)
    else:
        parts = rows * SPLITS + split
        tl.store(out + parts[:, None] * HEAD_DIM + dim[None, :], mixed, is_real)
        tl.store(sums + parts, highest + tl.log2(safe), step < count)


@triton.jit
def _join(
    out,
    parts,
    sums,
    items,
    NUM_HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    WIDTH: tl.constexpr,
    SPLITS: tl.constexpr,
):
    """One program a decoding row and head: its splits' outputs by what each one's sum is."""
    item, head = tl.program_id(0), tl.program_id(1)
    if tl.load(items + item * 4 + 1) > 0:
        row = tl.load(items + item * 4).to(tl.int64) * NUM_HEADS + head
        split, dim = tl.arange(0, SPLITS), tl.arange(0, WIDTH)
        logs = tl.load(sums + row * SPLITS + split)
        weights = tl.exp2(logs - tl.max(logs, 0))
        places = (row * SPLITS + split)[:, None] * HEAD_DIM + dim[None, :]
        mixed = tl.load(parts + places, (dim < HEAD_DIM)[None, :], 0.0) * weights[:, None]
        result = tl.sum(mixed, 0) / tl.sum(weights, 0)
        place = out + row * HEAD_DIM + dim
        tl.store(place, result.to(out.dtype.element_ty), dim < HEAD_DIM)


def store(blocks: Tensor, slots_N: Tensor, key_NGK: Tensor, value_NGK: Tensor) -> None:
    """Write tokens into a cache [block, token, 2, G, K]; slots below 0 are left out."""
    num_tokens, num_groups, head_dim = key_NGK.shape
    assert key_NGK.stride()[1:] == value_NGK.stride()[1:] == (head_dim, 1)
    size = num_groups * head_dim
    strides = key_NGK.stride(0), value_NGK.stride(0)
    width = triton.next_power_of_2(size)
    _store[(num_tokens,)](blocks, slots_N, key_NGK, value_NGK, *strides, SIZE=size, WIDTH=width)


def attend(
    query_NHK: Tensor, blocks: Tensor, tiles: Sequence[Tiles], scale: float, num_cores: int
) -> Tensor:
    """Causal attention [N, H, K] of the tiles' tokens to what the cache has of their sequences.

    Outputs of tokens that no tile has are whatever was in the memory.
    """
    out_NHK = torch.empty_like(query_NHK)
    for part in tiles:
        num_splits = 1
        if part.num_tokens == 1:
            num_splits = splits_for(len(part.items) * blocks.shape[3], num_cores)
        _attend_tiles(out_NHK, query_NHK, blocks, part, scale, num_splits)
    return out_NHK


def splits_for(num_programs: int, num_cores: int) -> int:
    """How many programs share a context, so that there are two or more for every core."""
    wanted = 2 * num_cores // max(1, num_programs)
    return min(_MAX_SPLITS, 1 << max(0, wanted.bit_length() - 1))


def _attend_tiles(
    out_NHK: Tensor, query_NHK: Tensor, blocks: Tensor, tiles: Tiles, scale: float, num_splits: int
) -> None:
    items, (num_tokens, num_heads, head_dim) = tiles.items, query_NHK.shape
    _, block_size, _, num_groups, _ = blocks.shape
    assert query_NHK.is_contiguous() and items.is_contiguous() and tiles.tables.stride(1) == 1
    shared, width = num_heads // num_groups, max(16, triton.next_power_of_2(head_dim))
    target, sums = out_NHK, items
    if num_splits > 1:
        shape = (num_tokens, num_heads, num_splits)
        target = query_NHK.new_empty((*shape, head_dim), dtype=torch.float32)
        sums = query_NHK.new_empty(shape, dtype=torch.float32)
    _attend[(len(items), num_groups, num_splits)](
        target,
        sums,
        query_NHK,
        blocks,
        tiles.tables,
        items,
        tiles.tables.stride(0),
        scale * math.log2(math.e),
        BLOCK_SIZE=block_size,
        GROUPS=num_groups,
        SHARED=shared,
        HEAD_DIM=head_dim,
        WIDTH=width,
        # A product on tensor cores has 16 rows at least.
        ROWS=max(16, triton.next_power_of_2(shared * tiles.num_tokens)),
        KEYS=max(16, min(_MAX_STEP_KEYS, _STEP_BYTES // (width * blocks.element_size()))),
        SPLITS=num_splits,
        PRECISION="ieee" if blocks.dtype == torch.float32 else "tf32",
        num_stages=2,
    )
    if num_splits > 1:
        sizes = {"NUM_HEADS": num_heads, "HEAD_DIM": head_dim, "WIDTH": width}
        _join[(len(items), num_heads)](out_NHK, target, sums, items, **sizes, SPLITS=num_splits)
