"""Exact mode: a token's numbers have the same bits, whatever is computed beside it.

Rounding follows the order of additions, and libraries choose that order by the shape of
the whole batch: a sampler and a trainer of the same weights then differ in the last bits.
In exact mode both compute every row by the same chain of operations: with the C kernels,
whose rows are independent by construction, or with torch operations in shapes for which
that holds. Gradients are those of the ordinary operations.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from r1.kernels.differentiable import TrainingKernels, training_kernels_of
from r1.kernels.fused import Kernels, kernels_of
from r1.models.exact_attention import whole_cache_lines
from r1.models.language_model import LanguageModel
from r1.models.layers import Embedding, Linear, RMSNorm, rotate_pairs
from r1.models.llama import LlamaForCausalLM
from r1.models.replaced_value import with_gradient_of

# Row counts at which a machine's matmul is asked for its bits. Libraries switch kernels at
# small counts (measured on two CPUs: from 12 rows on, at most, all agree), and cut long
# batches into blocks.
_PROBED_ROWS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 15, 16, 17, 24, 31, 32, 33, 48, 64, 65, 96)
_PROBED_ROWS += (100, 128, 192, 200, 256, 257, 384, 512, 777, 1024)
_MAX_PROBED_OUTPUTS = 2**24
_FEWEST_ROWS = (1, 2, 4, 16, 32, 64)
# Rows of a matrix product where the probe finds no rule, and on a GPU: always this many.
_TILE_ROWS = 256
# Of kernels/vectors.h.
_VECTOR = 16


def make_exact(model: LanguageModel) -> None:
    """Turn a model to exact mode, for sampling and for training alike; cheap, and for good.

    Raises ValueError for a model whose parts have no exact form.
    """
    if not isinstance(model, LlamaForCausalLM):
        raise ValueError(
            f"exact = true is for Llama and Qwen2 models; {model.config.architecture} has"
            " latent attention and experts, which compute in another order in training"
        )
    for module in model.modules():
        if isinstance(module, (Linear, RMSNorm, LanguageModel)):
            module.kernels_for = exact_kernels_for
        elif not isinstance(module, Embedding) and any(True for _ in module.parameters(False)):
            raise ValueError("exact = true needs weights that are not quantised")
    model.model.is_exact = True


def exact_kernels_for(values: Tensor) -> ExactKernels:
    """What computes a layer in exact mode; with gradients too, unlike `fused.kernels_for`."""
    return _exact_kernels(values.dtype, values.device.type)


class ExactKernels:
    """The operations of `fused.Kernels`, with gradients, and with bits that a batch cannot change.

    Without C kernels torch computes: elementwise operations and reductions of a row are
    independent of other rows, except where noted.
    """

    def __init__(self, kernels: Kernels | None, pointwise: TrainingKernels | None) -> None:
        self.kernels, self.pointwise = kernels, pointwise

    def takes(self, x: Tensor, weight: Tensor) -> bool:
        """Any number of rows."""
        return True

    def linear(
        self,
        x: Tensor,
        weights: Sequence[Tensor],
        biases: Sequence[Tensor | None],
        is_gated: bool = False,
    ) -> Tensor:
        """As `Kernels.linear`; where it is gated, both products are rounded before."""
        multiply = self._multiply(weights)
        if torch.is_grad_enabled():
            output = _Linear.apply(multiply, x, *weights, *biases)
        else:
            output = multiply(x, weights, biases)
        return self.gate(*output.split(len(weights[0]), -1)) if is_gated else output

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """Root-mean-square norm of the last dimension."""
        if self.pointwise is None:
            return F.rms_norm(x, weight.shape, weight, eps)
        return self.pointwise.rms_norm(x, weight, eps)

    def rotate(self, heads_NHK: Tensor, cos_NK: Tensor, sin_NK: Tensor) -> Tensor:
        """Rotate the pairs (i, i + K/2) of every head."""
        if self.pointwise is not None:
            return self.pointwise.rotate(heads_NHK, cos_NK, sin_NK)
        cos, sin = (part.view(-1, 1, part.shape[-1]) for part in (cos_NK, sin_NK))
        return rotate_pairs(heads_NHK, cos, sin)

    def gate(self, gate: Tensor, up: Tensor) -> Tensor:
        """silu(gate) * up."""
        if self.pointwise is not None and gate.shape[-1] % _VECTOR == 0:
            return self.pointwise.gate(gate, up)
        return with_gradient_of(_plain_gate, _gate_by_exp, gate, up)

    def for_all_layers(self, *sizes: int) -> Kernels | None:
        """The C kernels, where each part of a layer is theirs."""
        is_theirs = self.pointwise is not None and not any(size % _VECTOR for size in sizes)
        return self.kernels if is_theirs else None

    def _multiply(self, weights: Sequence[Tensor]) -> Callable[..., Tensor]:
        is_possible = all(w.shape[1] % 2 == 0 and w.is_contiguous() for w in weights)
        return self.kernels.linear if self.kernels is not None and is_possible else _linear_by_torch


@functools.cache
def _exact_kernels(dtype: torch.dtype, device_type: str) -> ExactKernels:
    if device_type != "cpu":
        return ExactKernels(None, None)
    # With AMX torch's product is several times faster than ours.
    has_amx = torch.cpu._is_amx_tile_supported() and dtype == torch.bfloat16
    return ExactKernels(None if has_amx else kernels_of(dtype), training_kernels_of(dtype))


def _linear_by_torch(
    x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor | None]
) -> Tensor:
    rows = x.reshape(-1, x.shape[-1]).contiguous()
    outputs = [
        _multiply_rows(rows, weight, bias) for weight, bias in zip(weights, biases, strict=True)
    ]
    return torch.cat(outputs, -1).view(*x.shape[:-1], -1)


def _multiply_rows(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """At least as many rows as make the bits independent of their number, or equal tiles."""
    num_rows = len(rows)
    rows, weight = whole_cache_lines(rows), whole_cache_lines(weight)
    fewest = None
    if rows.device.type == "cpu":
        shape = (*weight.shape, bias is not None)
        fewest = fewest_rows(shape, rows.dtype, torch.get_num_threads())
    if fewest is not None:
        padded = F.pad(rows, (0, 0, 0, max(0, fewest - num_rows)))
        return F.linear(padded, weight, bias)[:num_rows]
    padded = F.pad(rows, (0, 0, 0, -num_rows % _TILE_ROWS))
    tiles = [F.linear(tile, weight, bias) for tile in padded.split(_TILE_ROWS)]
    return torch.cat(tiles)[:num_rows]


@functools.cache
def fewest_rows(shape: tuple[int, int, bool], dtype: torch.dtype, num_threads: int) -> int | None:
    """The fewest rows from which on `F.linear` gives a row the same bits; None if it never does.

    `shape` is that of the weight [O, I], and whether there is a bias. Asked of the CPU
    itself, once a process: kernels are chosen by processor, library and number of threads.
    """
    num_outputs, num_inputs, has_bias = shape
    generator = torch.Generator().manual_seed(0)
    most = max(_FEWEST_ROWS[-1], min(_PROBED_ROWS[-1], _MAX_PROBED_OUTPUTS // num_outputs))
    # Products cancel, so that what is left is the rounding errors of one order of additions.
    # Of ordinary numbers rounded to bf16 one output in 10,000 tells two orders apart.
    half = num_inputs // 2
    order = torch.randperm(half, generator=generator)
    rows = torch.randn(most, half, generator=generator).to(dtype)
    weight = torch.randn(num_outputs, half, generator=generator).to(dtype)
    rows = F.pad(torch.cat((rows, rows[:, order]), 1), (0, num_inputs % 2))
    weight = F.pad(torch.cat((weight, -weight[:, order]), 1), (0, num_inputs % 2))
    bias = torch.randn(num_outputs, generator=generator).mul(1e-6).to(dtype) if has_bias else None
    with torch.inference_mode():
        expected = F.linear(rows, weight, bias)
        differing = [
            count
            for count in _PROBED_ROWS
            if count < most
            and not torch.equal(F.linear(rows[:count], weight, bias), expected[:count])
        ]
    last = max(differing, default=0)
    return next((count for count in _FEWEST_ROWS if count > last), None)


def _plain_gate(gate: Tensor, up: Tensor) -> Tensor:
    return F.silu(gate) * up


def _gate_by_exp(gate: Tensor, up: Tensor) -> Tensor:
    # torch's silu computes what is left over of a thread's share by another exponential
    # function; its `exp` does not.
    gate = gate.float()
    return (gate / (1 + torch.exp(-gate))).to(up.dtype) * up


class _Linear(torch.autograd.Function):
    """Products by any function; their gradients are torch's."""

    @staticmethod
    def forward(
        ctx: Any, compute: Callable[..., Tensor], x: Tensor, *parameters: Tensor | None
    ) -> Tensor:
        num_weights = len(parameters) // 2
        weights, biases = parameters[:num_weights], parameters[num_weights:]
        ctx.save_for_backward(x, *weights)
        ctx.has_bias = [bias is not None for bias in biases]
        return compute(x, weights, biases)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, *weights = ctx.saved_tensors
        rows = x.reshape(-1, x.shape[-1])
        parts = gradients[0].flatten(0, -2).split([len(weight) for weight in weights], -1)
        of_x = None
        if ctx.needs_input_grad[1]:
            of_x = parts[0] @ weights[0]
            for part, weight in zip(parts[1:], weights[1:], strict=True):
                of_x = torch.addmm(of_x, part, weight)
            of_x = of_x.view_as(x)
        needs = ctx.needs_input_grad[2:]
        of_weights = [part.T @ rows if n else None for part, n in zip(parts, needs, strict=False)]
        of_biases = [
            part.sum(0) if has else None for part, has in zip(parts, ctx.has_bias, strict=True)
        ]
        return None, of_x, *of_weights, *of_biases
