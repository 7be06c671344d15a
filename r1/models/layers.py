"""The small parts of a decoder block: RMSNorm, rotary positions, the gated MLP.

Shape suffixes, here and in the whole project: B sequences, T query tokens, S key
tokens, N packed tokens, D hidden, H heads, G key-value heads, K head dim, C latent of
keys and values, R rotated dims, V vocabulary, F feed-forward, E experts, A experts of
a token.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from r1.kernels.fused import Kernels, kernels_for
from r1.kernels.quantized import QuantizedKernels
from r1.models.model_config import ModelConfig, RopeParameters


class LayerKernels(Protocol):
    """What may compute layers in torch's place: `fused.Kernels`, or those of exact mode."""

    def takes(self, x: Tensor, weight: Tensor) -> bool: ...
    def linear(
        self,
        x: Tensor,
        weights: Sequence[Tensor],
        biases: Sequence[Tensor | None],
        is_gated: bool = False,
    ) -> Tensor: ...
    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor: ...
    def rotate(self, heads_NHK: Tensor, cos_NK: Tensor, sin_NK: Tensor) -> Tensor: ...
    def gate(self, gate: Tensor, up: Tensor) -> Tensor: ...
    def for_all_layers(self, *sizes: int) -> Kernels | QuantizedKernels | None:
        """What computes all layers in one call, with the same bits; None where nothing does.

        `sizes`: of the vectors that are normed and gated.
        """
        ...


# Asked with a layer's input; None leaves the layer to torch.
KernelChoice = Callable[[Tensor], LayerKernels | None]


class Linear(nn.Linear):
    """nn.Linear whose weights wait for `build_model` or a checkpoint.

    The default initialisation would be drawn for nothing, and on meta tensors it
    imports a second of torch decompositions.
    """

    kernels_for: KernelChoice = staticmethod(kernels_for)

    def reset_parameters(self) -> None:
        """Leave the memory as it is."""

    def forward(self, input: Tensor) -> Tensor:
        """[..., I] to [..., O]."""
        return linear(input, self.weight, self.bias, self.kernels_for(input))


def linear(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, kernels: LayerKernels | None = None
) -> Tensor:
    """`F.linear`, or what the kernels have for it: for few rows, one that reads weights once."""
    if kernels is not None and kernels.takes(x, weight):
        return kernels.linear(x, (weight,), (bias,))
    return F.linear(x, weight, bias)


def project(x: Tensor, *layers: nn.Module) -> tuple[Tensor, ...]:
    """One input through up to three linear layers: where a kernel serves, in one pass."""
    plain = [layer for layer in layers if isinstance(layer, Linear)]
    kernels = plain[0].kernels_for(x) if len(plain) == len(layers) else None
    if kernels is None or not kernels.takes(x, plain[0].weight):
        return tuple(layer(x) for layer in layers)
    weights = [layer.weight for layer in plain]
    outputs = kernels.linear(x, weights, [layer.bias for layer in plain])
    return outputs.split([len(weight) for weight in weights], -1)


def gated(x: Tensor, gate: nn.Module, up: nn.Module) -> Tensor:
    """silu(gate(x)) * up(x): where a kernel serves, in one pass."""
    kernels = (gate if isinstance(gate, Linear) else Linear).kernels_for(x)
    if kernels is None:
        return F.silu(gate(x)) * up(x)
    if (isinstance(gate, Linear) and isinstance(up, Linear)) and (
        gate.bias is None and kernels.takes(x, gate.weight)
    ):
        return kernels.linear(x, (gate.weight, up.weight), (None, None), is_gated=True)
    return kernels.gate(gate(x), up(x))


class Embedding(nn.Embedding):
    """nn.Embedding whose weights wait for `build_model` or a checkpoint."""

    def reset_parameters(self) -> None:
        """Leave the memory as it is."""


class RMSNorm(nn.Module):
    """Root-mean-square norm (arXiv:1910.07467), computed in fp32 as Llama does."""

    kernels_for: KernelChoice = staticmethod(kernels_for)

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, hidden_BTD: Tensor) -> Tensor:
        """Normalise the last dimension; the result has the input's dtype."""
        if (kernels := self.kernels_for(hidden_BTD)) is not None:
            return kernels.rms_norm(hidden_BTD, self.weight, self.eps)
        return F.rms_norm(hidden_BTD, self.weight.shape, self.weight, self.eps)


def inverse_frequencies(rope: RopeParameters, head_dim: int) -> Tensor:
    """Angular frequency of every rotated pair, fp32 [head_dim / 2] on the CPU.

    RoFormer (arXiv:2104.09864); linear scaling (arXiv:2306.15595); the llama3
    type is Llama 3.1's `apply_scaling`: wavelengths shorter than
    context / high_freq_factor stay, those longer than context / low_freq_factor
    are divided by `factor`, between them both are blended. YaRN (arXiv:2309.00071,
    section 3.2) blends over the pairs' numbers instead, between those that make
    `beta_fast` and `beta_slow` turns, as its published code rounds them.
    """
    exponents = torch.arange(0, head_dim, 2, device="cpu").float() / head_dim
    frequencies = 1.0 / (rope.rope_theta**exponents)
    if rope.rope_type == "linear":
        return frequencies / rope.factor
    if rope.rope_type == "llama3":
        context = rope.original_max_position_embeddings
        turns = context * frequencies / (2 * math.pi)
        span = rope.high_freq_factor - rope.low_freq_factor
        keep = ((turns - rope.low_freq_factor) / span).clamp(0.0, 1.0)
        return keep * frequencies + (1 - keep) * frequencies / rope.factor
    if rope.rope_type == "yarn":
        keep = 1 - _yarn_ramp(rope, head_dim)
        return frequencies / rope.factor * (1 - keep) + frequencies * keep
    assert rope.rope_type == "default", rope.rope_type
    return frequencies


def _yarn_ramp(rope: RopeParameters, head_dim: int) -> Tensor:
    """0 for the pairs that stay as they are, 1 for those divided by `factor`."""

    def pair_with_turns(turns: float) -> float:
        wavelength = rope.original_max_position_embeddings / turns
        return head_dim * math.log(wavelength / (2 * math.pi)) / (2 * math.log(rope.rope_theta))

    first = max(math.floor(pair_with_turns(rope.beta_fast)), 0)
    last = min(math.ceil(pair_with_turns(rope.beta_slow)), head_dim - 1)
    pairs = torch.arange(head_dim // 2, device="cpu").float()
    return ((pairs - first) / max(last - first, 0.001)).clamp(0.0, 1.0)


# Positions whose rotation is kept: at first, and at most (33 MB in fp32 for heads of 64).
_MIN_TABLE_POSITIONS, _MAX_TABLE_POSITIONS = 512, 2**16


class RotaryEmbedding:
    """Cosines and sines of positions, computed once a forward and shared by all layers.

    Not a module: its frequencies are no weights, and must stay fp32 when the
    model is cast to bf16. On a CPU they are looked up: a step of few tokens would take as
    long for them as for a layer.
    """

    def __init__(self, config: ModelConfig) -> None:
        self.frequencies = inverse_frequencies(config.rope, config.rope_dim)
        self.scale = config.rope.rotation_scale
        self._tables: dict[torch.dtype, tuple[Tensor, Tensor]] = {}

    def __call__(self, positions_BT: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return (cos, sin), each [B, T, 1, K] in `dtype`, both halves of K alike, scaled."""
        if positions_BT.device.type != "cpu" or positions_BT.numel() == 0:
            return self._compute(positions_BT, dtype)
        last = int(positions_BT.max())
        if last >= _MAX_TABLE_POSITIONS:
            return self._compute(positions_BT, dtype)
        table = self._tables.get(dtype)
        if table is None or len(table[0]) <= last:
            # Outside of inference mode, whose tensors training could not take up.
            with torch.inference_mode(False):
                size = max(_MIN_TABLE_POSITIONS, 1 << last.bit_length())
                table = self._compute(torch.arange(size, device="cpu"), dtype)
            self._tables[dtype] = table
        cos, sin = (part.index_select(0, positions_BT.flatten()) for part in table)
        shape = (*positions_BT.shape, *cos.shape[1:])
        return cos.view(shape), sin.view(shape)

    def _compute(self, positions_BT: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        if self.frequencies.device != positions_BT.device:
            self.frequencies = self.frequencies.to(positions_BT.device)
        angles_BTK = positions_BT[..., None, None].float() * self.frequencies
        cos, sin = angles_BTK.cos(), angles_BTK.sin()
        if self.scale != 1.0:
            cos, sin = cos * self.scale, sin * self.scale
        return torch.cat((cos, cos), -1).to(dtype), torch.cat((sin, sin), -1).to(dtype)


def apply_rope(
    heads_BTHK: Tensor,
    cos_BT1K: Tensor,
    sin_BT1K: Tensor,
    choose: KernelChoice = kernels_for,
) -> Tensor:
    """Rotate pairs (i, i + K/2) of every head, the layout of Hugging Face checkpoints."""
    is_each_rotated = cos_BT1K.shape[:2] == heads_BTHK.shape[:2]
    if is_each_rotated and (kernels := choose(heads_BTHK)) is not None:
        rotated = kernels.rotate(heads_BTHK.flatten(0, 1), cos_BT1K, sin_BT1K)
        return rotated.view(heads_BTHK.shape)
    return rotate_pairs(heads_BTHK, cos_BT1K, sin_BT1K)


def rotate_pairs(heads_HK: Tensor, cos_1K: Tensor, sin_1K: Tensor) -> Tensor:
    """`apply_rope` by torch, of any number of tokens [..., H, K]."""
    first, second = heads_HK.chunk(2, dim=-1)
    return heads_HK * cos_1K + torch.cat((-second, first), -1) * sin_1K


def split_pairs(heads_BTHK: Tensor) -> Tensor:
    """Pairs (2i, 2i + 1) moved to (i, i + K/2), where `apply_rope` expects them.

    DeepSeek's checkpoints lay pairs side by side. Queries and keys are reordered alike,
    so their products do not change.
    """
    return heads_BTHK.unflatten(-1, (-1, 2)).transpose(-1, -2).flatten(-2)


class SwiGLU(nn.Module):
    """The gated feed-forward block (arXiv:2002.05202), `intermediate_size` wide unless told."""

    def __init__(self, config: ModelConfig, intermediate_size: int | None = None) -> None:
        super().__init__()
        inner = intermediate_size or config.intermediate_size
        hidden, bias = config.hidden_size, config.mlp_bias
        self.gate_proj = Linear(hidden, inner, bias=bias)
        self.up_proj = Linear(hidden, inner, bias=bias)
        self.down_proj = Linear(inner, hidden, bias=bias)

    def forward(self, hidden_BTD: Tensor) -> Tensor:
        """[B, T, D] to [B, T, D]."""
        return self.down_proj(gated(hidden_BTD, self.gate_proj, self.up_proj))
