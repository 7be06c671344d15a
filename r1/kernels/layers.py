"""What the C kernels need of a Llama or Qwen2 to compute all its layers in one call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from r1.kernels.fused import Kernels
from r1.kernels.quantized import QuantizedKernels


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """Addresses: those of every layer in the order of `Layer` in layers.h, and of the last norm.

    Valid as long as the weights stay where they are. `is_exact`: with the bits of exact mode,
    where a row does not depend on its batch and the products that gate are rounded before.
    """

    table: np.ndarray
    final_norm: int
    bits: int
    num_heads: int
    inner_size: int
    eps: float
    scale: float
    is_exact: bool


def layer_addresses(
    kernels: Kernels | QuantizedKernels, layers: Sequence[Sequence[Tensor | None]]
) -> tuple[np.ndarray, int] | None:
    """The table of `LayerWeights` and its bits; None where the kernels do not take the weights.

    `layers` have each layer's tensors in the order of `Layer`, None for a missing bias.
    """
    vectors = [tensor for layer in layers for tensor in layer if tensor is not None]
    matrices = [tensor for tensor in vectors if tensor.dim() == 2]
    dtype, bits = matrices[0].dtype, 0
    if isinstance(kernels, QuantizedKernels):
        if not all(matrix.data_ptr() in kernels.packed for matrix in matrices):
            return None
        bits = kernels.packed[matrices[0].data_ptr()].bits
    elif any(matrix.shape[1] % 2 for matrix in matrices):
        return None
    if any(tensor.dtype != dtype or not tensor.is_contiguous() for tensor in vectors):
        return None

    def address(tensor: Tensor | None) -> int:
        if tensor is None:
            return 0
        return kernels.address(tensor) if tensor.dim() == 2 else tensor.data_ptr()

    return np.array([[*map(address, layer)] for layer in layers], np.int64), bits
