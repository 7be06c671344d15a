"""Causal attention inside the segments of a packed batch, and the cache's seam.

Training packs many texts into one row. A segment is one text: it starts where
the position is 0 or where a row starts. Padding tokens have position 0, so each
of them is a segment of its own that no other token sees.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from r1.kernels.layers import LayerWeights
from r1.kernels.segments import SegmentTable, attend_segments, has_segment_kernel

# Segments share a bucket when the shortest is at least this part of the longest,
# so padding never does more than double the attention's tokens.
MIN_FILL = 0.75


def steps_within(counts: np.ndarray) -> np.ndarray:
    """0, 1, ... counts[0] - 1, 0, 1, ... counts[1] - 1, and so on."""
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)


class KVCache(Protocol):
    """Keys and values of earlier tokens; how they are kept is the engine's matter."""

    def attend(
        self,
        layer: int,
        query_BTHK: Tensor,
        key_BTGK: Tensor,
        value_BTGK: Tensor | None,
        scale: float,
    ) -> Tensor:
        """Store this step's keys and values, attend to all so far, return [B, T, H, K].

        Query and key come with their rotary positions applied. `value_BTGK` None: the
        keys are the values too, and are stored once. `scale` multiplies the dot
        products before the softmax.
        """
        ...


class FusedCache(KVCache, Protocol):
    """A cache that may compute the layers around it as well."""

    def run_layers(
        self, hidden_BTD: Tensor, rotation: tuple[Tensor, Tensor], weights: LayerWeights
    ) -> Tensor | None:
        """All layers and the norm behind them, [B, T, D] to [B, T, D].

        None where the layers are faster one by one; else `hidden_BTD` is overwritten.
        """
        ...


@dataclass(frozen=True)
class AttentionPlan:
    """How a batch's tokens are laid out for attention, computed once a forward.

    Segments lie end to end over all rows. Segment s attends to itself and, where
    `prefixes[s]` is not -1, before it to all of that segment: a prompt stands once in a
    row, followed by the replies that continue it. A prefix has no prefix of its own.
    """

    lengths: tuple[int, ...]
    prefixes: tuple[int, ...]
    device: torch.device | str = "cpu"

    @classmethod
    def from_positions(cls, positions_BT: Tensor) -> AttentionPlan:
        """The segments of [B, T] positions: each starts at 0 or with a row."""
        is_start = positions_BT.cpu().numpy() == 0
        is_start[:, 0] = True
        starts = np.flatnonzero(is_start)
        lengths = tuple(np.diff(starts, append=is_start.size).tolist())
        return cls(lengths, (-1,) * len(lengths), positions_BT.device)

    @cached_property
    def table(self) -> SegmentTable:
        """For the C kernel."""
        return SegmentTable.of(self.lengths, self.prefixes)

    @cached_property
    def padding(self) -> PaddedSegments:
        """For torch's attention, which wants rows of one length."""
        return PaddedSegments.of(self)


@dataclass(frozen=True, slots=True)
class PaddedSegments:
    """Segments of like length as rows, each behind a copy of its prefix.

    `buckets` lists (segments, padded length). `pad_index` names the token in each
    padded slot and `unpad_index` the slot of each token in its own segment; both are
    None when the segments already are equal rows and nothing has to move. `copies` are
    (tokens, slots) of prefixes, in each a token once at most.
    """

    buckets: tuple[tuple[int, int], ...]
    pad_index: Tensor | None = None
    unpad_index: Tensor | None = None
    copies: tuple[tuple[Tensor, Tensor], ...] = ()

    @classmethod
    def of(cls, plan: AttentionPlan) -> PaddedSegments:
        own, prefixes = np.array(plan.lengths), np.array(plan.prefixes)
        if (prefixes < 0).all() and (own == own[0]).all():
            return cls(buckets=((len(own), plan.lengths[0]),))
        starts = np.cumsum(own) - own
        before = np.where(prefixes < 0, 0, own[prefixes])
        order = np.argsort(-(own + before), kind="stable")
        lengths = (own + before)[order]
        buckets, pad_parts, num_slots = [], [], 0
        unpad = np.empty(own.sum(), dtype=np.int64)
        copies: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
        first = 0
        while first < len(order):
            length = int(lengths[first])
            last = int(np.searchsorted(-lengths, -length * MIN_FILL, side="right"))
            for segment in order[first:last]:
                # Slots past the end repeat the last token: causal attention never reads
                # them from a real token, and their own outputs are dropped.
                steps = np.minimum(np.arange(length), before[segment] + own[segment] - 1)
                is_before = steps < before[segment]
                prefix_start = starts[prefixes[segment]] if before[segment] else 0
                tokens = np.where(
                    is_before, prefix_start + steps, starts[segment] + steps - before[segment]
                )
                slots = num_slots + np.arange(length)
                ends = before[segment] + own[segment]
                unpad[tokens[before[segment] : ends]] = slots[before[segment] : ends]
                if before[segment]:
                    turn = int(segment - prefixes[segment])
                    copies.setdefault(turn, []).append((tokens[is_before], slots[is_before]))
                pad_parts.append(tokens)
                num_slots += length
            buckets.append((last - first, length))
            first = last

        def to_device(values: np.ndarray) -> Tensor:
            return torch.from_numpy(values).to(plan.device)

        rounds = [
            [np.concatenate(part) for part in zip(*copies[turn], strict=True)]
            for turn in sorted(copies)
        ]
        return cls(
            tuple(buckets),
            to_device(np.concatenate(pad_parts)),
            to_device(unpad),
            tuple((to_device(tokens), to_device(slots)) for tokens, slots in rounds),
        )


class _PadSegments(torch.autograd.Function):
    """Tokens to padded slots. Its gradient is a gather too, because slots without a
    token get none (nothing reads them), and then an addition for each round of copies:
    no atomic adds, bit-identical on every run."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, padding: PaddedSegments) -> Tensor:
        ctx.padding = padding
        assert padding.pad_index is not None
        return values.index_select(0, padding.pad_index)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        total = gradients[0].index_select(0, ctx.padding.unpad_index)
        for tokens, slots in ctx.padding.copies:
            total.index_add_(0, tokens, gradients[0].index_select(0, slots))
        return total, None


class _UnpadSegments(torch.autograd.Function):
    """Padded slots to tokens. Every token has one slot, so the gradient is a plain write."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, unpad_index: Tensor) -> Tensor:
        ctx.save_for_backward(unpad_index)
        ctx.shape = values.shape
        return values.index_select(0, unpad_index)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (unpad_index,) = ctx.saved_tensors
        padded = gradients[0].new_zeros(ctx.shape)
        return padded.index_copy_(0, unpad_index, gradients[0]), None


def causal_attention(
    query_BTHK: Tensor, key_BTGK: Tensor, value_BTGK: Tensor, scale: float
) -> Tensor:
    """Causal attention over whole rows with grouped heads; returns [B, T, H, K]."""
    output_BHTK = F.scaled_dot_product_attention(
        query_BTHK.transpose(1, 2),
        key_BTGK.transpose(1, 2),
        value_BTGK.transpose(1, 2),
        is_causal=query_BTHK.shape[1] > 1,
        scale=scale,
        enable_gqa=query_BTHK.shape[2] != key_BTGK.shape[2],
    )
    return output_BHTK.transpose(1, 2)


def segment_attention(
    plan: AttentionPlan, query_BTHK: Tensor, key_BTGK: Tensor, value_BTGK: Tensor, scale: float
) -> Tensor:
    """Causal attention within the plan's segments; returns [B, T, H, K]."""
    query, key, value = (t.flatten(0, 1) for t in (query_BTHK, key_BTGK, value_BTGK))
    if has_segment_kernel(query, key, value):
        return attend_segments(plan.table, query, key, value, scale).view(query_BTHK.shape)
    padding = plan.padding
    if padding.unpad_index is None:
        rows = (t.unflatten(0, padding.buckets[0]) for t in (query, key, value))
        return causal_attention(*rows, scale=scale).reshape(query_BTHK.shape)
    padded = [
        _PadSegments.apply(t.flatten(1), padding).unflatten(1, t.shape[1:])
        for t in (query, key, value)
    ]
    outputs, first = [], 0
    for num_segments, length in padding.buckets:
        last = first + num_segments * length
        bucket = (part[first:last].unflatten(0, (num_segments, length)) for part in padded)
        outputs.append(causal_attention(*bucket, scale=scale).reshape(last - first, -1))
        first = last
    slots = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
    return _UnpadSegments.apply(slots, padding.unpad_index).view(query_BTHK.shape)
