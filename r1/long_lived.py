"""Memory for what is kept long, apart from the heap of what comes and goes.

Long-lived tensors among short-lived ones leave holes that nothing fits: 1.8 of 4.5 GB in a
GRPO step of a 135M model, before sums of gradients, moments and the KV cache lay apart.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Sequence

import torch


def untouched_zeros(
    shape: Sequence[int], dtype: torch.dtype, device: torch.device | str = "cpu"
) -> torch.Tensor:
    """Zeros that on a CPU take no memory before they are written, page by page.

    Raises RuntimeError, as torch does, for more than there can be.
    """
    num_bytes = math.prod(shape) * dtype.itemsize
    if torch.device(device).type != "cpu" or num_bytes == 0:
        return torch.zeros(shape, dtype=dtype, device=device)
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    try:
        pages = mmap.mmap(-1, num_bytes, flags=flags)
    except (OSError, OverflowError) as error:
        raise RuntimeError(f"no memory for a tensor of {num_bytes:,} bytes") from error
    return torch.frombuffer(pages, dtype=dtype).view(shape)
