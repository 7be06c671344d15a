"""A function computed in one way and differentiated in another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def with_gradient_of(
    reference: Callable[..., Tensor], compute: Callable[..., Tensor], *inputs: Tensor
) -> Tensor:
    """`compute(*inputs)` with the gradient of `reference`, which is evaluated for it then."""
    if not torch.is_grad_enabled():
        return compute(*inputs)
    return _Replaced.apply(reference, compute, *inputs)


class _Replaced(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, reference: Callable[..., Tensor], compute: Callable[..., Tensor], *inputs: Tensor
    ) -> Tensor:
        ctx.reference = reference
        ctx.save_for_backward(*inputs)
        return compute(*inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        needs = ctx.needs_input_grad[2:]
        inputs = [
            tensor.detach().requires_grad_(is_needed)
            for tensor, is_needed in zip(ctx.saved_tensors, needs, strict=True)
        ]
        with torch.enable_grad():
            output = ctx.reference(*inputs)
        wanted = [tensor for tensor in inputs if tensor.requires_grad]
        found = iter(torch.autograd.grad(output, wanted, gradients[0]))
        return None, None, *(next(found) if is_needed else None for is_needed in needs)
