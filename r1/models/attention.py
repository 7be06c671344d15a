"""Causal attention inside the segments of a packed batch, and the cache's seam.

Training packs many texts into one row. A segment is one text: it starts where
the position is 0 or where a row starts. Padding tokens have position 0, so each
of them is a segment of its own that no other token sees.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

# Segments share a bucket when the shortest is at least this part of the longest,
# so padding never does more than double the attention's tokens.
MIN_FILL = 0.75


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


@dataclass(frozen=True, slots=True)
class AttentionPlan:
    """How a batch's tokens are laid out for attention, computed once a forward.

    `buckets` lists (segments, padded length). `pad_index` names the token in each
    padded slot and `unpad_index` the slot of each token; both are None when the
    rows already are equal segments and nothing has to move.
    """

    buckets: tuple[tuple[int, int], ...]
    pad_index: Tensor | None = None
    unpad_index: Tensor | None = None

    @classmethod
    def from_positions(cls, positions_BT: Tensor) -> AttentionPlan:
        """Find the segments of [B, T] positions and put those of like length together."""
        num_rows, row_length = positions_BT.shape
        is_start = positions_BT.cpu().numpy() == 0
        is_start[:, 0] = True
        starts = np.flatnonzero(is_start)
        if len(starts) == num_rows:
            return cls(buckets=((num_rows, row_length),))
        lengths = np.diff(starts, append=is_start.size)
        order = np.argsort(-lengths, kind="stable")
        starts, lengths = starts[order], lengths[order]
        buckets, pad_parts, num_slots = [], [], 0
        unpad = np.empty(is_start.size, dtype=np.int64)
        first = 0
        while first < len(starts):
            length = int(lengths[first])
            last = int(np.searchsorted(-lengths, -length * MIN_FILL, side="right"))
            steps = np.arange(length)
            bucket_lengths = lengths[first:last, None]
            # Slots past a segment's end repeat its last token: causal attention never reads
            # them from a real token, and their own outputs are dropped.
            tokens = starts[first:last, None] + np.minimum(steps, bucket_lengths - 1)
            is_real = steps < bucket_lengths
            unpad[tokens[is_real]] = num_slots + np.flatnonzero(is_real)
            buckets.append((last - first, length))
            pad_parts.append(tokens.ravel())
            num_slots += tokens.size
            first = last
        device = positions_BT.device
        pad_index = torch.from_numpy(np.concatenate(pad_parts)).to(device)
        return cls(tuple(buckets), pad_index, torch.from_numpy(unpad).to(device))


class _PadSegments(torch.autograd.Function):
    """Tokens to padded slots. Its gradient is a gather too, because slots without a
    token get none (nothing reads them): no atomic adds, bit-identical on every run."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, pad_index: Tensor, unpad_index: Tensor) -> Tensor:
        ctx.save_for_backward(unpad_index)
        return values.index_select(0, pad_index)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (unpad_index,) = ctx.saved_tensors
        return gradients[0].index_select(0, unpad_index), None, None


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
    if plan.pad_index is None or plan.unpad_index is None:
        return causal_attention(query_BTHK, key_BTGK, value_BTGK, scale)
    padded = []
    for tensor in (query_BTHK, key_BTGK, value_BTGK):
        rows = tensor.flatten(0, 1).flatten(1)
        slots = _PadSegments.apply(rows, plan.pad_index, plan.unpad_index)
        padded.append(slots.unflatten(1, tensor.shape[2:]))
    outputs, first = [], 0
    for num_segments, length in plan.buckets:
        last = first + num_segments * length
        query, key, value = (
            part[first:last].unflatten(0, (num_segments, length)) for part in padded
        )
        outputs.append(causal_attention(query, key, value, scale).reshape(last - first, -1))
        first = last
    slots = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
    return _UnpadSegments.apply(slots, plan.unpad_index).view(query_BTHK.shape)
