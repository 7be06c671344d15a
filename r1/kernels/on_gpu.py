"""Triton's kernels where a GPU runs them: asked once, answered by running one."""

from __future__ import annotations

import functools
import importlib.util
import logging
import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from r1.kernels.triton_layers import GpuKernels

# Ampere: bf16, and cores large enough for the kernels' tiles.
_LEAST_CAPABILITY = (8, 0)

# Rows of a tile's products (tokens times the heads that share a KV head), and those in fp32,
# which has no tensor cores: more would not fit the registers.
_TILE_ROWS, _TILE_ROWS_FP32 = 64, 16


@dataclass(frozen=True, slots=True)
class Tiles:
    """Which tokens attend together: at most `num_tokens` neighbours of one sequence.

    `items` int32 [I, 4]: first packed token, how many (0 for none), row of `tables` (int32
    [rows, blocks], block ids), position of the first.
    """

    items: torch.Tensor
    tables: torch.Tensor
    num_tokens: int


def tile_tokens(num_heads_per_group: int, dtype: torch.dtype) -> int:
    """How many tokens of a prompt share what they read."""
    num_rows = _TILE_ROWS_FP32 if dtype == torch.float32 else _TILE_ROWS
    return max(1, num_rows // num_heads_per_group)


def gpu_kernels_for(values: torch.Tensor) -> GpuKernels | None:
    """What rotates and gates on the values' GPU; None where torch does.

    That is in training, also without gradients: two passes of a trainer have the same bits.
    Triton launches on the thread's current GPU, so on another nothing is offered.
    """
    if not torch.is_inference_mode_enabled() or values.device.index != torch.cuda.current_device():
        return None
    return gpu_kernels(values.device)


@functools.cache
def gpu_kernels(device: torch.device) -> GpuKernels | None:
    """The kernels, or None where they cannot be had (logged once) or R1_KERNELS=off."""
    if os.environ.get("R1_KERNELS") == "off" or device.type != "cuda":
        return None
    reason = "triton is not installed"
    if importlib.util.find_spec("triton") is not None:
        reason = _why_not(device)
    if reason is not None:
        logging.getLogger(__name__).warning("no GPU kernels, torch computes instead: %s", reason)
        return None
    from r1.kernels.triton_layers import GpuKernels

    return GpuKernels(torch.cuda.get_device_properties(device).multi_processor_count)


def _why_not(device: torch.device) -> str | None:
    """Triton compiles with the system's C compiler when first used, which may be missing."""
    if torch.cuda.get_device_capability(device) < _LEAST_CAPABILITY:
        return f"{torch.cuda.get_device_name(device)} is older than the kernels"
    try:
        from r1.kernels.triton_layers import probe

        with torch.cuda.device(device):
            probe(device)
    except (ImportError, OSError, RuntimeError, subprocess.SubprocessError) as error:
        return str(error).partition("\n")[0] or type(error).__name__
    return None
