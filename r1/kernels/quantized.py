"""Weights in 8 or 4 bits, and layers that multiply with them on a CPU.

A step at batch 1 takes as long as reading the weights does, so half or a quarter of the bytes
is half or a quarter of the time. Each 32 inputs of an output have a scale and a lowest value of
their own (as GGUF's Q8_0 and Q4_1); inputs are rounded to 8 bits in the same groups.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from r1.kernels.fused import Kernels

GROUP = 32
_LANES = 16


@dataclass(frozen=True, slots=True)
class PackedWeight:
    """A weight [O, I] in the layout of quantized.h: bytes [blocks, groups, 64 + 64 bits]."""

    bits: int
    num_outputs: int
    num_inputs: int
    data: Tensor

    @property
    def num_bytes(self) -> int:
        return self.data.nbytes

    def dequantize(self) -> Tensor:
        """The weight as it multiplies, fp32 [O, I]."""
        blocks, groups, _ = self.data.shape
        scales, packed = self.data[..., :64].contiguous(), self.data[..., 64:]
        if self.bits == 4:
            packed = packed.unflatten(2, (4, 64))
            packed = torch.stack((packed & 15, packed >> 4), 3)
        q = packed.reshape(blocks, groups, 8, _LANES, 4).permute(0, 3, 1, 2, 4).float()
        scales = scales.view(torch.bfloat16).float().view(blocks, groups, 2, _LANES)
        scale, low = scales.permute(2, 0, 3, 1)[..., None]
        rows = q.reshape(blocks, _LANES, groups, GROUP) * scale + low
        return rows.view(blocks * _LANES, -1)[: self.num_outputs]


def can_pack(weight: Tensor) -> bool:
    """Whether a weight's inputs are whole groups."""
    return weight.dim() == 2 and weight.shape[1] % GROUP == 0


def pack_weight(weight: Tensor, bits: int) -> PackedWeight:
    """Round a weight [O, I] to 8 or 4 bits."""
    num_outputs, num_inputs = weight.shape
    groups, blocks = num_inputs // GROUP, -(-num_outputs // _LANES)
    rows = torch.zeros(blocks * _LANES, groups, GROUP)
    rows[:num_outputs] = weight.detach().float().view(num_outputs, groups, GROUP)
    if bits == 8:
        scale = (rows.abs().amax(-1, keepdim=True) / 127).bfloat16().float()
        low = -128 * scale
    else:
        low = rows.amin(-1, keepdim=True).bfloat16().float()
        scale = ((rows.amax(-1, keepdim=True) - low) / 15).bfloat16().float()
    q = ((rows - low) / scale.clamp(min=1e-30)).round_().clamp_(0, 2**bits - 1).to(torch.uint8)
    steps = q.view(blocks, _LANES, groups, 8, 4).permute(0, 2, 3, 1, 4)
    if bits == 4:
        steps = steps[:, :, ::2] | steps[:, :, 1::2] << 4
    scales = torch.cat((scale, low), -1).view(blocks, _LANES, groups, 2).permute(0, 2, 3, 1)
    scales = scales.bfloat16().contiguous().view(torch.uint8)
    data = torch.cat((scales.flatten(2), steps.flatten(2)), 2)
    return PackedWeight(bits, num_outputs, num_inputs, data)


@dataclass(frozen=True, slots=True)
class QuantizedKernels:
    """`Kernels` whose products are with packed weights, found by the weight's address."""

    plain: Kernels
    packed: Mapping[int, PackedWeight]

    def takes(self, x: Tensor, weight: Tensor) -> bool:
        """All that is packed: a row's result must not depend on how many there are."""
        return weight.data_ptr() in self.packed

    def address(self, weight: Tensor) -> int:
        """Where the kernels find a weight: what is packed of it, if anything."""
        packed = self.packed.get(weight.data_ptr())
        return weight.data_ptr() if packed is None else packed.data.data_ptr()

    def linear(
        self,
        x: Tensor,
        weights: Sequence[Tensor],
        biases: Sequence[Tensor | None],
        is_gated: bool = False,
    ) -> Tensor:
        """As `Kernels.linear`."""
        packed = [self.packed[weight.data_ptr()] for weight in weights]
        addresses = [one.data.data_ptr() for one in packed]
        sizes = [one.num_outputs for one in packed]
        return self.plain.multiply(x, addresses, sizes, biases, is_gated, packed[0].bits)

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """As `Kernels.rms_norm`."""
        return self.plain.rms_norm(x, weight, eps)

    def rotate(self, heads_NHK: Tensor, cos_NK: Tensor, sin_NK: Tensor) -> Tensor:
        """As `Kernels.rotate`."""
        return self.plain.rotate(heads_NHK, cos_NK, sin_NK)

    def for_all_layers(self, *sizes: int) -> QuantizedKernels:
        """See LayerKernels."""
        return self

    def gate(self, gate: Tensor, up: Tensor) -> Tensor:
        """As `Kernels.gate`."""
        return self.plain.gate(gate, up)
