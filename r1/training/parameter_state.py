"""What the optimizer keeps of one parameter: its fp32 master, summed gradient and moments."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from r1.long_lived import untouched_zeros

HALF_DTYPES = (torch.bfloat16, torch.float16)
# Values converted at once: on a CPU they stay in its caches.
_CHUNK_VALUES, _CHUNK_VALUES_ON_GPU = 2**18, 2**24


@dataclass(frozen=True, slots=True)
class Moments:
    """AdamW's running means, and their number of steps as torch keeps it."""

    exp_avg: Tensor
    exp_avg_sq: Tensor
    step: Tensor

    @classmethod
    def zero(cls, like: Tensor, dtype: torch.dtype) -> Moments:
        first = untouched_zeros(like.shape, dtype, like.device)
        second = untouched_zeros(like.shape, dtype, like.device)
        return cls(first, second, torch.zeros((), device=like.device))


@dataclass(frozen=True, slots=True)
class AdamwPart:
    """Flat fp32 values that one call of AdamW changes: a parameter's, or some of them."""

    weight: Tensor
    gradient: Tensor
    exp_avg: Tensor
    exp_avg_sq: Tensor
    step: Tensor


class ParameterState:
    """A parameter that is trained; in half-precision its weights are rounded from a master.

    bf16 is the upper half of fp32, so that the master of a bf16 weight is the weight and the
    16 bits that rounding took, in int16: split SGD (arXiv:2005.04680, section VII), there
    cut and here rounded. An fp16 weight's master is a copy in fp32, an fp32 weight its own.
    """

    def __init__(self, parameter: Tensor, moments_dtype: torch.dtype) -> None:
        self.parameter = parameter
        self.master: Tensor | None = None
        self.moments: Moments | None = None
        self._moments_dtype = moments_dtype
        self._gradient: Tensor | None = None
        self._has_gradient = False
        shape, device = parameter.shape, parameter.device
        if parameter.dtype not in HALF_DTYPES:
            return
        self._gradient = untouched_zeros(shape, torch.float32, device)
        is_bf16 = parameter.dtype == torch.bfloat16
        self.master = untouched_zeros(shape, torch.int16 if is_bf16 else torch.float32, device)
        if not is_bf16:
            self.master.copy_(parameter.detach())

    @property
    def is_half(self) -> bool:
        """Whether gradients are summed apart from the parameter."""
        return self.master is not None

    @property
    def is_plain(self) -> bool:
        """Whether AdamW can work on the very tensors that are kept."""
        return self.master is None and self._moments_dtype == torch.float32

    @property
    def gradient(self) -> Tensor | None:
        """The sum of the step so far, fp32."""
        if self._gradient is None:
            return self.parameter.grad
        return self._gradient if self._has_gradient else None

    def add_gradient(self, scale: float) -> None:
        """Move a half-precision parameter's gradient, times `scale`, to the sum."""
        gradient, total = self.parameter.grad, self._gradient
        assert gradient is not None and total is not None
        if self._has_gradient:
            total.add_(gradient, alpha=scale)
        else:
            total.copy_(gradient)
            if scale != 1.0:
                total.mul_(scale)
        self._has_gradient = True
        self.parameter.grad = None

    def forget_gradient(self) -> None:
        self._has_gradient = False
        self.parameter.grad = None

    def moments_or_zero(self) -> Moments:
        """The moments; the first call makes them."""
        if self.moments is None:
            self.moments = Moments.zero(self.parameter, self._moments_dtype)
        return self.moments

    def whole(self) -> AdamwPart:
        """Of a plain parameter: the tensors that are kept."""
        assert self.gradient is not None
        moments = self.moments_or_zero()
        means = moments.exp_avg, moments.exp_avg_sq
        return AdamwPart(self.parameter, self.gradient, *means, moments.step)

    def converted(self) -> Iterator[AdamwPart]:
        """A part at a time in fp32; taken back, rounded, when the next one is asked for."""
        moments = self.moments_or_zero()
        weight, master = self.parameter.detach().view(-1), self.master
        gradient = self.gradient
        assert gradient is not None
        is_on_gpu = weight.device.type != "cpu"
        size = _CHUNK_VALUES_ON_GPU if is_on_gpu else _CHUNK_VALUES
        kept = [moments.exp_avg.view(-1), moments.exp_avg_sq.view(-1)]
        for first in range(0, len(weight), size):
            part = slice(first, first + size)
            master_part = None if master is None else master.view(-1)[part]
            values = _master_values(weight[part], master_part)
            means = [mean[part].float() for mean in kept]
            # AdamW counts its own copy of the step up.
            step = moments.step.clone()
            yield AdamwPart(values, gradient.view(-1)[part], means[0], means[1], step)
            _round_master(values, weight[part], master_part)
            if self._moments_dtype != torch.float32:
                for mean, of_part in zip(kept, means, strict=True):
                    mean[part].copy_(of_part)
        moments.step.add_(1)


def _master_values(weight: Tensor, master: Tensor | None) -> Tensor:
    """fp32 values; those of an fp32 weight, and of an fp32 master, are its own memory."""
    if master is None or master.dtype == torch.float32:
        return weight if master is None else master
    upper = weight.view(torch.int16).int().bitwise_left_shift_(16)
    return upper.add_(master).view(torch.float32)


def _round_master(values: Tensor, weight: Tensor, master: Tensor | None) -> None:
    """The reverse of `_master_values`. To nearest; of two equally near the one farther from 0."""
    if master is None:
        return
    if master.dtype == torch.float32:
        weight.copy_(values)
        return
    bits = values.view(torch.int32)
    master.copy_(bits)  # the lower 16 bits, as a signed number
    weight.view(torch.int16).copy_(bits.add_(0x8000).bitwise_right_shift_(16))
