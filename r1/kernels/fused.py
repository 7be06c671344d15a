"""The C kernels on tensors, for one dtype: what a layer of inference is made of on a CPU."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from r1.kernels.differentiable import TrainingKernels, training_kernels_of
from r1.kernels.native import kernel_functions
from r1.kernels.on_gpu import gpu_kernels_for

if TYPE_CHECKING:
    from r1.kernels.triton_layers import GpuKernels

# As in vectors.h: tokens of a cache's tile, queries that share what they read, the widest head.
TILE_TOKENS, MAX_QUERIES, MAX_HEAD_DIM = 16, 24, 256
# Rows up to which our product beats torch's, which packs the weights: in bf16 with AMX few.
_MAX_ROWS = {torch.bfloat16: 128, torch.float32: 512}
_MAX_ROWS_WITH_AMX = 16
# Rows up to which the product that reads weights as vectors is faster.
_MAX_DOT_ROWS = 16


def kernels_for(values: Tensor) -> Kernels | TrainingKernels | GpuKernels | None:
    """The kernels where they serve: in their dtypes, on a CPU with gradients where wanted."""
    if values.device.type == "cpu" and torch.is_grad_enabled():
        return training_kernels_of(values.dtype)
    if values.device.type == "cuda":
        return gpu_kernels_for(values)
    return inference_kernels_for(values)


def inference_kernels_for(values: Tensor) -> Kernels | None:
    """`kernels_for` where nothing is to be differentiated, else None."""
    if values.device.type != "cpu" or torch.is_grad_enabled():
        return None
    return _fastest_of(values.dtype)


@functools.cache
def _fastest_of(dtype: torch.dtype) -> Kernels | None:
    kernels = kernels_of(dtype)
    return None if kernels is None else replace(kernels, max_dot_rows=_MAX_DOT_ROWS)


@functools.cache
def kernels_of(dtype: torch.dtype) -> Kernels | None:
    """The kernels for one dtype; None for others than bf16 and fp32, and where there are none.

    Their `linear` gives a row the same bits in every batch; that of `kernels_for` does not.
    """
    names = [field.name.removeprefix("c_") for field in fields(Kernels)][2:]
    functions = kernel_functions(dtype, *names)
    if functions is None:
        return None
    max_rows = _MAX_ROWS[dtype]
    if dtype == torch.bfloat16 and torch.cpu._is_amx_tile_supported():
        max_rows = _MAX_ROWS_WITH_AMX
    elif dtype == torch.bfloat16 and torch.cpu._is_avx512_bf16_supported():
        max_rows = sys.maxsize
    return Kernels(max_rows, 0, *functions)


@dataclass(frozen=True, slots=True)
class Kernels:
    """The functions of kernels.c for one dtype, and the calls that check what they are given."""

    max_rows: int
    max_dot_rows: int
    c_attend: Callable[..., None]
    c_gate: Callable[..., None]
    c_layers: Callable[..., None]
    c_linear: Callable[..., None]
    c_rms_norm: Callable[..., None]
    c_rotate: Callable[..., None]
    c_sample: Callable[..., None]
    c_write_cache: Callable[..., None]

    def linear(
        self,
        x: Tensor,
        weights: Sequence[Tensor],
        biases: Sequence[Tensor | None],
        is_gated: bool = False,
    ) -> Tensor:
        """x [..., I] times up to three weights [O, I], side by side in one output.

        `is_gated`: silu(x W0) * (x W1) of two weights instead.
        """
        addresses = [weight.data_ptr() for weight in weights]
        return self.multiply(x, addresses, [*map(len, weights)], biases, is_gated)

    def multiply(
        self,
        x: Tensor,
        addresses: Sequence[int],
        sizes: Sequence[int],
        biases: Sequence[Tensor | None],
        is_gated: bool,
        bits: int = 0,
    ) -> Tensor:
        """`linear` with the weights at these addresses, packed in `bits` unless 0."""
        *batch, num_inputs = x.shape
        x = x.contiguous()
        width = sizes[0] if is_gated else sum(sizes)
        out = torch.empty((*batch, width), dtype=x.dtype)
        pad = (0,) * (3 - len(sizes))
        self.c_linear(
            out.data_ptr(),
            x.data_ptr(),
            x.numel() // num_inputs,
            num_inputs,
            *addresses,
            *pad,
            *sizes,
            *pad,
            *(0 if bias is None else bias.data_ptr() for bias in biases),
            *pad,
            is_gated,
            bits,
            self.max_dot_rows,
            torch.get_num_threads(),
        )
        return out

    def address(self, weight: Tensor) -> int:
        """Where `multiply` finds a weight."""
        return weight.data_ptr()

    def takes(self, x: Tensor, weight: Tensor) -> bool:
        """Whether `linear` is possible, and the faster choice, for x [..., I] and a weight."""
        num_inputs = x.shape[-1]
        return (
            x.numel() <= self.max_rows * num_inputs
            and num_inputs % 2 == 0
            and weight.dtype == x.dtype
            and weight.is_contiguous()
        )

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """Root-mean-square norm of the last dimension."""
        x = x.contiguous()
        out, size = torch.empty_like(x), x.shape[-1]
        rows = x.numel() // size
        threads = torch.get_num_threads()
        self.c_rms_norm(out.data_ptr(), x.data_ptr(), weight.data_ptr(), rows, size, eps, threads)
        return out

    def rotate(self, heads_NHK: Tensor, cos_NK: Tensor, sin_NK: Tensor) -> Tensor:
        """Rotate the pairs (i, i + K/2) of every head; heads may be a slice of a wider row."""
        num_tokens, num_heads, head_dim = heads_NHK.shape
        if heads_NHK.stride(2) != 1:
            heads_NHK = heads_NHK.contiguous()
        out = torch.empty((num_tokens, num_heads, head_dim), dtype=heads_NHK.dtype)
        self.c_rotate(
            out.data_ptr(),
            heads_NHK.data_ptr(),
            heads_NHK.stride(0),
            heads_NHK.stride(1),
            cos_NK.data_ptr(),
            sin_NK.data_ptr(),
            num_tokens,
            num_heads,
            head_dim,
            torch.get_num_threads(),
        )
        return out

    def for_all_layers(self, *sizes: int) -> Kernels:
        """See LayerKernels."""
        return self

    def gate(self, gate: Tensor, up: Tensor) -> Tensor:
        """silu(gate) * up, written over `gate`; both in one piece."""
        size = gate.shape[-1]
        rows, threads = gate.numel() // size, torch.get_num_threads()
        self.c_gate(gate.data_ptr(), gate.data_ptr(), up.data_ptr(), rows, size, threads)
        return gate
