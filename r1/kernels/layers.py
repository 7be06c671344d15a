"""What the C kernels need of a Llama or Qwen2 to compute all its layers in one call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from r1.kernels.fused import Kernels


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """Every layer's tensors in the order of `Layer` in layers.h, None for a missing bias."""

    layers: Sequence[Sequence[Tensor | None]]
    num_heads: int
    inner_size: int
    eps: float
    scale: float

    def are_taken(self, kernels: Kernels, hidden_BTD: Tensor) -> bool:
        """Whether one call is possible, and the faster choice, for these hidden states."""
        dtype, size = hidden_BTD.dtype, hidden_BTD.shape[-1]
        return (
            hidden_BTD.numel() <= kernels.max_rows * size
            and (size | self.inner_size) % 2 == 0
            and all(
                tensor is None or (tensor.dtype == dtype and tensor.is_contiguous())
                for layer in self.layers
                for tensor in layer
            )
        )

    def addresses(self, tiles: Sequence[Tensor]) -> np.ndarray:
        """The table of `Layer`s, whose caches are the first of `tiles`."""
        rows = [
            [0 if tensor is None else tensor.data_ptr() for tensor in (*layer, cache)]
            for layer, cache in zip(self.layers, tiles, strict=False)
        ]
        return np.array(rows, np.int64)
