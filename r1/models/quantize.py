"""Serving with weights in 8 or 4 bits (`engine.quantize`), on CPUs."""

from __future__ import annotations

import torch
from torch import Tensor

from r1.kernels.fused import kernels_for, kernels_of
from r1.kernels.quantized import PackedWeight, QuantizedKernels, can_pack, pack_weight
from r1.models.language_model import LanguageModel
from r1.models.layers import LayerKernels, Linear


@torch.no_grad()
def quantize_model(model: LanguageModel, bits: int) -> dict[str, PackedWeight]:
    """Let `inference_mode` multiply with rounded copies of the linear weights; returns these.

    The model's own weights stay what they are, for training and for the next call, which is due
    when they change. With 4 bits the head has 8: its rounding moves log-probs most. Raises
    ValueError where the kernels for it are missing.
    """
    assert bits in (4, 8)
    kernels = kernels_of(model.dtype) if model.device.type == "cpu" else None
    if kernels is None:
        raise ValueError(
            f"quantize = int{bits} is for CPUs with a C compiler and models in bfloat16 or float32;"
            f" this one is {str(model.dtype).removeprefix('torch.')} on {model.device.type}"
        )
    layers = {name: part for name, part in model.named_modules() if isinstance(part, Linear)}
    weights = {name: layer.weight for name, layer in layers.items() if can_pack(layer.weight)}
    packed = {name: pack_weight(weight, bits) for name, weight in weights.items()}
    if can_pack(model.head_weight):
        weights["lm_head"], packed["lm_head"] = model.head_weight, pack_weight(model.head_weight, 8)
    by_address = {weight.data_ptr(): packed[name] for name, weight in weights.items()}
    quantized = QuantizedKernels(kernels, by_address)

    def choose(x: Tensor) -> LayerKernels | None:
        # A trainer that shares the model scores with its own weights, under `no_grad`.
        return quantized if torch.is_inference_mode_enabled() else kernels_for(x)

    for part in (model, *layers.values()):
        part.kernels_for = choose
    return packed
