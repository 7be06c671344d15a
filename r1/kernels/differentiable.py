"""Norm, rotation and gate in training on a CPU: one pass forward, one back, nothing kept twice.

torch computes them in four to eight passes and keeps fp32 copies for its backward pass. The
forward pass is the inference kernels' own.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from r1.kernels.native import kernel_functions

_LANES = 16
# The rows' shares whose gradients of a norm's weight are added up, in their order.
_NUM_PARTS = 64


@functools.cache
def training_kernels_of(dtype: torch.dtype) -> TrainingKernels | None:
    """The kernels for one dtype; None for others than bf16 and fp32, and where there are none."""
    names = [field.name.removeprefix("c_") for field in fields(TrainingKernels)]
    functions = kernel_functions(dtype, *names)
    return None if functions is None else TrainingKernels(*functions)


@dataclass(frozen=True, slots=True)
class TrainingKernels:
    """The functions of kernels.c for one dtype, with gradients. Products stay torch's."""

    c_rms_norm: Callable[..., None]
    c_rms_norm_backward: Callable[..., None]
    c_rotate: Callable[..., None]
    c_gate: Callable[..., None]
    c_gate_backward: Callable[..., None]

    def takes(self, x: Tensor, weight: Tensor) -> bool:
        """No product: with the rows of training torch's are the fastest."""
        return False

    def linear(
        self,
        x: Tensor,
        weights: Sequence[Tensor],
        biases: Sequence[Tensor | None],
        is_gated: bool = False,
    ) -> Tensor:
        raise AssertionError("takes() refuses every product")

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """Root-mean-square norm of the last dimension."""
        if x.shape[-1] % _LANES:
            return torch.nn.functional.rms_norm(x, weight.shape, weight, eps)
        return _RmsNorm.apply(x, weight, eps, self)

    def rotate(self, heads_NHK: Tensor, cos_NK: Tensor, sin_NK: Tensor) -> Tensor:
        """Rotate the pairs (i, i + K/2) of every head; heads may be a slice of a wider row."""
        return _Rotate.apply(heads_NHK, cos_NK, sin_NK, self)

    def for_all_layers(self, *sizes: int) -> None:
        """Nothing: gradients go layer by layer."""

    def gate(self, gate: Tensor, up: Tensor) -> Tensor:
        """silu(gate) * up."""
        if gate.numel() % _LANES:
            return torch.nn.functional.silu(gate) * up
        return _Gate.apply(gate, up, self)


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, eps: float, kernels: TrainingKernels
    ) -> Tensor:
        x = x.contiguous()
        ctx.save_for_backward(x, weight)
        ctx.eps, ctx.kernels = eps, kernels
        out, size = torch.empty_like(x), x.shape[-1]
        pointers = (t.data_ptr() for t in (out, x, weight))
        kernels.c_rms_norm(*pointers, x.numel() // size, size, eps, torch.get_num_threads())
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        x_gradient, size = torch.empty_like(x), x.shape[-1]
        parts = torch.empty(_NUM_PARTS, size)
        gradient = gradients[0].contiguous()
        pointers = (t.data_ptr() for t in (x_gradient, parts, gradient, x, weight))
        sizes = (x.numel() // size, size, ctx.eps, _NUM_PARTS)
        ctx.kernels.c_rms_norm_backward(*pointers, *sizes, torch.get_num_threads())
        return x_gradient, parts.sum(0).to(weight.dtype), None, None


class _Rotate(torch.autograd.Function):
    """Its gradient is rotated back."""

    @staticmethod
    def forward(
        ctx: Any, heads_NHK: Tensor, cos: Tensor, sin: Tensor, kernels: TrainingKernels
    ) -> Tensor:
        ctx.save_for_backward(cos, sin)
        ctx.kernels = kernels
        return _rotate(kernels, heads_NHK, cos, sin)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        cos, sin = ctx.saved_tensors
        return _rotate(ctx.kernels, gradients[0], cos, -sin), None, None, None


def _rotate(kernels: TrainingKernels, heads_NHK: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    if heads_NHK.stride(2) != 1:
        heads_NHK = heads_NHK.contiguous()
    out = torch.empty(heads_NHK.shape, dtype=heads_NHK.dtype)
    strides = heads_NHK.stride(0), heads_NHK.stride(1)
    pointers = out.data_ptr(), heads_NHK.data_ptr(), *strides, cos.data_ptr(), sin.data_ptr()
    kernels.c_rotate(*pointers, *heads_NHK.shape, torch.get_num_threads())
    return out


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor, kernels: TrainingKernels) -> Tensor:
        gate, up = gate.contiguous(), up.contiguous()
        ctx.save_for_backward(gate, up)
        ctx.kernels = kernels
        out, size = torch.empty_like(gate), gate.shape[-1]
        pointers = (t.data_ptr() for t in (out, gate, up))
        kernels.c_gate(*pointers, gate.numel() // size, size, torch.get_num_threads())
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        gate, up = ctx.saved_tensors
        results = torch.empty_like(gate), torch.empty_like(up)
        tensors = (*results, gradients[0].contiguous(), gate, up)
        pointers = (t.data_ptr() for t in tensors)
        ctx.kernels.c_gate_backward(*pointers, gate.numel(), torch.get_num_threads())
        return *results, None
