"""What stands between matrix products in a layer, on a GPU: one Triton kernel where torch
launches five (rotation) or two (gate).

Imported only where triton is; the interpreter (TRITON_INTERPRET=1) runs all of it on a CPU.
"""

# A launch takes numbers for constants, and settings of the compiler: its type does not say so.
# pyright: reportArgumentType=false, reportCallIssue=false
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn import functional as F

from r1.kernels.on_gpu import Tiles
from r1.kernels.triton_attention import attend, store

_GATE_BLOCK = 1024


@triton.jit
def _rotate(
    out,
    heads,
    cos,
    sin,
    token_stride,
    head_stride,
    NUM_HEADS: tl.constexpr,
    HALF: tl.constexpr,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """One program a token: pairs (i, i + HALF) of all its heads."""
    token = tl.program_id(0).to(tl.int64)
    head, pair = tl.arange(0, ROWS)[:, None], tl.arange(0, WIDTH)[None, :]
    is_real = (head < NUM_HEADS) & (pair < HALF)
    place = heads + token * token_stride + head * head_stride + pair
    first = tl.load(place, is_real, 0.0).to(tl.float32)
    second = tl.load(place + HALF, is_real, 0.0).to(tl.float32)
    # Both halves of a token's cosines are alike.
    angle = token * (2 * HALF) + pair
    cos_of = tl.load(cos + angle, pair < HALF, 0.0).to(tl.float32)
    sin_of = tl.load(sin + angle, pair < HALF, 0.0).to(tl.float32)
    target = out + (token * NUM_HEADS + head) * (2 * HALF) + pair
    dtype = out.dtype.element_ty
    tl.store(target, (first * cos_of - second * sin_of).to(dtype), is_real)
    tl.store(target + HALF, (second * cos_of + first * sin_of).to(dtype), is_real)


@triton.jit
def _gate(gate, up, size, BLOCK: tl.constexpr):
    index = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(gate + index, index < size, 0.0).to(tl.float32)
    y = tl.load(up + index, index < size, 0.0).to(tl.float32)
    tl.store(gate + index, (x * tl.sigmoid(x) * y).to(gate.dtype.element_ty), index < size)


@dataclass(frozen=True, slots=True)
class GpuKernels:
    """The operations of `fused.Kernels` on one GPU; products and norms are torch's own.

    `num_cores` is how many programs it runs side by side (its multiprocessors).
    """

    num_cores: int

    def takes(self, x: Tensor, weight: Tensor) -> bool:
        """Never: cuBLAS multiplies."""
        return False

    def linear(
        self,
        x: Tensor,
        weights: Sequence[Tensor],
        biases: Sequence[Tensor | None],
        is_gated: bool = False,
    ) -> Tensor:
        raise AssertionError("takes() refuses every product")

    def for_all_layers(self, *sizes: int) -> None:
        """Nothing: a recorded graph takes its place."""

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """Root-mean-square norm of the last dimension: one kernel in torch too."""
        return F.rms_norm(x, weight.shape, weight, eps)

    def rotate(self, heads_NHK: Tensor, cos_NK: Tensor, sin_NK: Tensor) -> Tensor:
        """Rotate the pairs (i, i + K/2) of every head; heads may be a slice of a wider row."""
        num_tokens, num_heads, head_dim = heads_NHK.shape
        if heads_NHK.stride(2) != 1:
            heads_NHK = heads_NHK.contiguous()
        out = heads_NHK.new_empty(heads_NHK.shape)
        _rotate[(num_tokens,)](
            out,
            heads_NHK,
            cos_NK.contiguous(),
            sin_NK.contiguous(),
            heads_NHK.stride(0),
            heads_NHK.stride(1),
            NUM_HEADS=num_heads,
            HALF=head_dim // 2,
            ROWS=triton.next_power_of_2(num_heads),
            WIDTH=triton.next_power_of_2(head_dim // 2),
        )
        return out

    def gate(self, gate: Tensor, up: Tensor) -> Tensor:
        """silu(gate) * up, written over `gate` where that is in one piece."""
        gate, up = gate.contiguous(), up.contiguous()
        size = gate.numel()
        _gate[(triton.cdiv(size, _GATE_BLOCK),)](gate, up, size, BLOCK=_GATE_BLOCK)
        return gate

    def store(self, blocks: Tensor, slots_N: Tensor, key_NGK: Tensor, value_NGK: Tensor) -> None:
        """`triton_attention.store`."""
        store(blocks, slots_N, key_NGK, value_NGK)

    def attend(
        self, query_NHK: Tensor, blocks: Tensor, tiles: Sequence[Tiles], scale: float
    ) -> Tensor:
        """`triton_attention.attend`."""
        return attend(query_NHK, blocks, tiles, scale, self.num_cores)


def probe(device: torch.device) -> None:
    """Compile and run a kernel; raises what triton does where it cannot, or RuntimeError."""
    x = torch.linspace(-4, 4, 100, device=device)
    found, expected = GpuKernels(1).gate(x.clone(), x), F.silu(x) * x
    if not torch.allclose(found, expected, atol=1e-5):
        raise RuntimeError("a kernel's result is wrong")
