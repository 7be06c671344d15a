"""Attention of training by the C kernels: segments of a packed row, prompts shared by replies."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Sequence
from ctypes import c_float, c_int64, c_void_p
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from r1.kernels.native import kernel_functions

_BLOCK = 64  # of segments.h


class _Attention(ctypes.Structure):
    """`Attention` of segments.h."""

    _fields_ = [
        ("segments", c_void_p),
        ("families", c_void_p),
        ("num_families", c_int64),
        ("num_blocks", c_int64),
        ("num_heads", c_int64),
        ("num_kv_heads", c_int64),
        ("head_dim", c_int64),
        ("scale", c_float),
        ("query", c_void_p),
        ("key", c_void_p),
        ("value", c_void_p),
        ("query_stride", c_int64),
        ("key_stride", c_int64),
        ("value_stride", c_int64),
    ]


class _Gradients(ctypes.Structure):
    """`Gradients` of segments.h."""

    _fields_ = [
        (name, c_void_p)
        for name in (
            "out",
            "out_gradient",
            "keys_t",
            "lse",
            "query_gradient",
            "key_gradients",
            "value_gradients",
        )
    ]


@dataclass(frozen=True, slots=True)
class SegmentTable:
    """The segments of a row as the kernel reads them.

    `segments` int64 [S, 4]: first token, length, first key block, index of the prefix or
    -1. A prefix stands before those that share it; with them it is a family, and
    `families` [F + 1] has the first segment of each, and S.
    """

    segments: Tensor
    families: Tensor
    num_blocks: int

    @classmethod
    def of(cls, lengths: Sequence[int], prefixes: Sequence[int]) -> SegmentTable:
        """Segments end to end; `prefixes[s]` is the index of the one that s continues, or -1."""
        blocks = -(-np.asarray(lengths) // _BLOCK)
        columns = (
            np.cumsum(lengths) - lengths,
            lengths,
            np.cumsum(blocks) - blocks,
            prefixes,
        )
        starts = [s for s, prefix in enumerate(prefixes) if prefix < 0]
        return cls(
            torch.from_numpy(np.stack(columns, 1).astype(np.int64)),
            torch.tensor([*starts, len(lengths)]),
            int(blocks.sum()),
        )


@functools.cache
def _functions(dtype: torch.dtype) -> list[Callable[..., None]] | None:
    return kernel_functions(dtype, "segments_forward", "segments_backward")


def has_segment_kernel(query_NHK: Tensor, key_NGK: Tensor, value_NGK: Tensor) -> bool:
    """Whether `attend_segments` serves: on a CPU, values as wide as keys, K a multiple of 16."""
    return (
        query_NHK.device.type == "cpu"
        and query_NHK.shape[-1] % 16 == 0
        and key_NGK.shape == value_NGK.shape
        and _functions(query_NHK.dtype) is not None
    )


def attend_segments(
    table: SegmentTable, query_NHK: Tensor, key_NGK: Tensor, value_NGK: Tensor, scale: float
) -> Tensor:
    """Causal attention within segments and to their prefixes; [N, H, K], differentiable."""
    return _AttendSegments.apply(query_NHK, key_NGK, value_NGK, table, scale)


class _AttendSegments(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, table: SegmentTable, scale: float
    ) -> Tensor:
        query, key, value = map(_with_dense_heads, (query, key, value))
        num_tokens, num_heads, head_dim = query.shape
        out = torch.empty((num_tokens, num_heads, head_dim), dtype=query.dtype)
        lse_HN = torch.empty(num_heads, num_tokens)
        values_t = query.new_empty(key.shape[1] * table.num_blocks * _BLOCK * head_dim)
        functions = _functions(query.dtype)
        assert functions is not None
        functions[0](
            ctypes.byref(_describe(query, key, value, table, scale)),
            out.data_ptr(),
            lse_HN.data_ptr(),
            num_tokens,
            values_t.data_ptr(),
            torch.get_num_threads(),
        )
        ctx.save_for_backward(query, key, value, out, lse_HN)
        ctx.table, ctx.scale = table, scale
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, out, lse_HN = ctx.saved_tensors
        table, (num_tokens, num_heads, head_dim) = ctx.table, query.shape
        block_size = table.num_blocks * _BLOCK * head_dim
        out_gradient = gradients[0].contiguous()
        keys_t = query.new_empty(key.shape[1] * block_size)
        # fp32, because many queries add to a key, and for each head of a group apart.
        key_parts, value_parts = torch.empty(2, num_heads * block_size).unbind()
        results = [torch.empty(t.shape, dtype=t.dtype) for t in (query, key, value)]
        described = _Gradients(
            *(t.data_ptr() for t in (out, out_gradient, keys_t, lse_HN, results[0])),
            key_parts.data_ptr(),
            value_parts.data_ptr(),
        )
        functions = _functions(query.dtype)
        assert functions is not None
        functions[1](
            ctypes.byref(_describe(query, key, value, table, ctx.scale)),
            ctypes.byref(described),
            keys_t.data_ptr(),
            results[1].data_ptr(),
            results[2].data_ptr(),
            num_tokens,
            torch.get_num_threads(),
        )
        return *results, None, None


def _with_dense_heads(heads_NHK: Tensor) -> Tensor:
    """Tokens may be slices of wider rows; heads lie side by side, at even places."""
    num_heads, head_dim = heads_NHK.shape[1:]
    is_dense = heads_NHK.stride(2) == 1 and (num_heads == 1 or heads_NHK.stride(1) == head_dim)
    return heads_NHK if is_dense and heads_NHK.stride(0) % 2 == 0 else heads_NHK.contiguous()


def _describe(
    query: Tensor, key: Tensor, value: Tensor, table: SegmentTable, scale: float
) -> _Attention:
    return _Attention(
        table.segments.data_ptr(),
        table.families.data_ptr(),
        len(table.families) - 1,
        table.num_blocks,
        query.shape[1],
        key.shape[1],
        query.shape[2],
        scale,
        *(t.data_ptr() for t in (query, key, value)),
        *(t.stride(0) for t in (query, key, value)),
    )
