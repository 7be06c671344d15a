"""Weights in FP8 with a scale for each block, the format that DeepSeek-V3 is released in.

A weight [O, I] is stored as e4m3 beside `NAME_scale_inv`, an fp32 matrix with one number
for each block of 128 x 128: value = stored * scale (V3 report, section 3.3, and the
release's README_WEIGHTS.md). Norms, the embedding, the head, the routers and what joins
the multi-token predictor's inputs are not quantised.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

SCALE_SUFFIX = "_scale_inv"
BLOCK_SIZE = (128, 128)
QUANTIZATION_CONFIG = {
    "activation_scheme": "dynamic",
    "fmt": "e4m3",
    "quant_method": "fp8",
    "weight_block_size": list(BLOCK_SIZE),
}

_QUANTIZED_MODULES = {
    "q_proj",
    "q_a_proj",
    "q_b_proj",
    "kv_a_proj_with_mqa",
    "kv_b_proj",
    "k_proj",
    "v_proj",
    "o_proj",
    "gate_proj",
    "up_proj",
    "down_proj",
}
_LARGEST = torch.finfo(torch.float8_e4m3fn).max


def quantize_blocks(
    weight_OI: Tensor, block_size: Sequence[int] = BLOCK_SIZE
) -> tuple[Tensor, Tensor]:
    """The e4m3 weight and its fp32 scales; the largest value of a block becomes 448.

    Blocks at the lower and right edge may be smaller. A block of zeros has scale 1.
    """
    quantized = torch.empty_like(weight_OI, dtype=torch.float8_e4m3fn)
    scales = []
    for rows, stored in zip(
        weight_OI.split(block_size[0]), quantized.split(block_size[0]), strict=True
    ):
        strip = rows.float()
        largest = torch.stack([block.abs().max() for block in strip.split(block_size[1], dim=1)])
        scale = torch.where(largest > 0, largest / _LARGEST, torch.ones_like(largest))
        stored.copy_(strip / _spread(scale, block_size, strip))
        scales.append(scale)
    return quantized, torch.stack(scales)


def dequantize_blocks(
    weight_OI: Tensor,
    scale_inv: Tensor,
    dtype: torch.dtype,
    block_size: Sequence[int] = BLOCK_SIZE,
) -> Tensor:
    """The weight in `dtype`, made a strip of blocks at a time.

    Raises ValueError when there is not one scale for each block.
    """
    expected = [-(-size // block) for size, block in zip(weight_OI.shape, block_size, strict=True)]
    if list(scale_inv.shape) != expected:
        raise ValueError(f"scales of shape {list(scale_inv.shape)}, expected {expected}")
    values = torch.empty_like(weight_OI, dtype=dtype)
    strips = zip(
        weight_OI.split(block_size[0]), scale_inv.float(), values.split(block_size[0]), strict=True
    )
    for stored, scale, rows in strips:
        strip = stored.float()
        rows.copy_(strip * _spread(scale, block_size, strip))
    return values


def quantized_tensors(name: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    """What a checkpoint in FP8 stores for a weight: itself, or its two tensors."""
    if not is_quantized(name, tensor) or tensor.dtype == torch.float8_e4m3fn:
        yield name, tensor
        return
    weight, scale_inv = quantize_blocks(tensor)
    yield name, weight
    yield name + SCALE_SUFFIX, scale_inv


def is_quantized(name: str, tensor: Tensor) -> bool:
    """Whether the release keeps this weight in FP8: the projections, those of experts too."""
    parts = name.split(".")
    is_projection = parts[-1] == "weight" and parts[-2] in _QUANTIZED_MODULES
    return is_projection and tensor.ndim == 2


def _spread(scale: Tensor, block_size: Sequence[int], strip: Tensor) -> Tensor:
    """One scale a block as one a column."""
    return scale.repeat_interleave(block_size[1])[: strip.shape[1]]
