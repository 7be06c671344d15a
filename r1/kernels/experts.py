"""The routed experts of a layer by the C kernels: forward, and backward for training."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from ctypes import c_int64, c_void_p
from typing import Any

import torch
from torch import Tensor

from r1.kernels.native import kernel_functions

_LANES = 16
# Rows of an expert from which on torch's bf16 product with AMX is faster.
_MAX_ROWS_WITH_AMX = 16


class _Experts(ctypes.Structure):
    """`Experts` of experts.h."""

    _fields_ = [
        *((name, c_void_p) for name in ("x", "gate_up", "down", "weights", "starts", "places")),
        *((name, c_int64) for name in ("num_tokens", "num_chosen", "num_experts")),
        *((name, c_int64) for name in ("hidden_size", "inner_size", "num_threads")),
    ]


class _Gradients(ctypes.Structure):
    """`ExpertGradients` of experts_backward.h."""

    _fields_ = [
        (name, c_void_p)
        for name in (
            "out_gradient",
            "products",
            "inner",
            "product_gradients",
            "of_weights",
            "of_x",
            "of_gate_up",
            "of_down",
        )
    ]


@functools.cache
def _functions(dtype: torch.dtype) -> list[Callable[..., None]] | None:
    return kernel_functions(dtype, "experts", "experts_backward")


def has_experts_kernel(
    hidden_ND: Tensor, experts_NA: Tensor, gate_up: Tensor, down: Tensor
) -> bool:
    """Whether `mix_experts` serves: on a CPU, both sizes multiples of 16, weights in one piece."""
    is_wide = (
        hidden_ND.dtype == torch.bfloat16
        and experts_NA.numel() > _MAX_ROWS_WITH_AMX * len(gate_up)
        and torch.cpu._is_amx_tile_supported()
    )
    return (
        hidden_ND.device.type == "cpu"
        and not is_wide
        and hidden_ND.dtype == gate_up.dtype == down.dtype
        and all(size % _LANES == 0 for size in down.shape[1:])
        and gate_up.is_contiguous()
        and down.is_contiguous()
        and _functions(hidden_ND.dtype) is not None
    )


def mix_experts(
    hidden_ND: Tensor, experts_NA: Tensor, weights_NA: Tensor, gate_up: Tensor, down: Tensor
) -> Tensor:
    """The weighted sum [N, D] of every token's experts; differentiable.

    `gate_up` [E, 2F, D] has the gates over the ups, `down` is [E, D, F]. Sums are in fp32.
    """
    inputs = hidden_ND.contiguous(), weights_NA.float().contiguous(), gate_up, down
    if torch.is_grad_enabled():
        return _MixExperts.apply(*inputs, experts_NA)
    return _forward(*inputs, experts_NA, None)[0]


class _MixExperts(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weights: Tensor, gate_up: Tensor, down: Tensor, experts: Tensor
    ) -> Tensor:
        products = hidden.new_empty(experts.numel(), gate_up.shape[1])
        out, starts, places = _forward(hidden, weights, gate_up, down, experts, products)
        ctx.save_for_backward(hidden, weights, gate_up, down, starts, places, products)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weights, gate_up, down, starts, places, products = ctx.saved_tensors
        functions = _functions(hidden.dtype)
        assert functions is not None
        needs = ctx.needs_input_grad
        of_hidden = torch.empty_like(hidden) if needs[0] else None
        of_weights = torch.empty_like(weights)
        has_stacks = needs[2] or needs[3]
        of_gate_up = torch.empty_like(gate_up) if has_stacks else None
        of_down = torch.empty_like(down) if has_stacks else None
        tensors = (
            gradients[0].contiguous(),
            products,
            hidden.new_empty(len(places), down.shape[2]),
            torch.empty_like(products),
            of_weights,
            of_hidden,
            of_gate_up,
            of_down,
        )
        functions[1](
            ctypes.byref(_describe(hidden, weights, gate_up, down, starts, places)),
            ctypes.byref(_Gradients(*(None if t is None else t.data_ptr() for t in tensors))),
        )
        return of_hidden, of_weights, of_gate_up, of_down, None


def _forward(
    hidden: Tensor,
    weights: Tensor,
    gate_up: Tensor,
    down: Tensor,
    experts: Tensor,
    products: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The output, and where each expert's rows start and what they are."""
    functions = _functions(hidden.dtype)
    assert functions is not None
    experts = experts.contiguous()
    out, num_rows = torch.empty_like(hidden), experts.numel()
    starts = torch.empty(len(gate_up) + 1, dtype=torch.int64)
    places = torch.empty(num_rows, dtype=torch.int64)
    inner = hidden.new_empty(num_rows, down.shape[2])
    functions[0](
        ctypes.byref(_describe(hidden, weights, gate_up, down, starts, places)),
        out.data_ptr(),
        inner.data_ptr(),
        None if products is None else products.data_ptr(),
        experts.data_ptr(),
    )
    assert int(starts[-1]) == num_rows, "no such expert"
    return out, starts, places


def _describe(
    hidden: Tensor, weights: Tensor, gate_up: Tensor, down: Tensor, starts: Tensor, places: Tensor
) -> _Experts:
    return _Experts(
        *(t.data_ptr() for t in (hidden, gate_up, down, weights, starts, places)),
        *weights.shape,
        *down.shape,
        torch.get_num_threads(),
    )
