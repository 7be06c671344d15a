"""Projections that stay in FP8: half the memory of bf16, and matrix products on FP8 units.

Activations are quantised on the way, one scale for each 128 values of a token; weights keep
the released scales, one for each block of 128 x 128 (V3 report, section 3.3.2). A GPU of
compute capability 9 multiplies both as they are; elsewhere the same rounding is followed by
an fp32 product, which is slow and meant for tests. Nothing here is trained.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from r1.models.fp8 import BLOCK_SIZE, dequantize_blocks, is_quantized, quantize_blocks
from r1.models.layers import Linear
from r1.models.moe import Experts

# The absorbed form of latent attention needs this weight itself.
_NEVER_KEPT = ("kv_b_proj",)
# Of the largest value: what a product on the GPU may differ from the emulated one (bf16).
_PROBE_TOLERANCE = 0.01


class Fp8Linear(nn.Module):
    """A projection without bias; `weight` [O, I] in e4m3 and its `weight_scale_inv`."""

    def __init__(self, num_outputs: int, num_inputs: int) -> None:
        super().__init__()
        self.weight, self.weight_scale_inv = _stored(num_outputs, num_inputs)

    def forward(self, hidden: Tensor) -> Tensor:
        """[..., I] to [..., O] in the input's dtype."""
        output = fp8_matmul(hidden.flatten(0, -2), self.weight, self.weight_scale_inv)
        return output.unflatten(0, hidden.shape[:-1])


class Fp8Experts(nn.Module):
    """`Experts` with both stacks in e4m3, one product after another for those chosen."""

    def __init__(self, experts: Experts) -> None:
        super().__init__()
        self.num_experts = experts.num_experts
        gate_up, down = experts.gate_up_proj.shape, experts.down_proj.shape
        self.gate_up_proj, self.gate_up_proj_scale_inv = _stored(*gate_up)
        self.down_proj, self.down_proj_scale_inv = _stored(*down)

    def forward(self, hidden_ND: Tensor, experts_NA: Tensor, weights_NA: Tensor) -> Tensor:
        """The weighted sum [N, D] of every token's experts."""
        num_chosen = experts_NA.shape[1]
        order = experts_NA.flatten().argsort(stable=True)
        counts = torch.bincount(experts_NA.flatten(), minlength=self.num_experts).tolist()
        rows = hidden_ND.index_select(0, order // num_chosen)
        outputs = []
        for expert, part in enumerate(rows.split(counts)):
            if len(part):
                both = fp8_matmul(
                    part, self.gate_up_proj[expert], self.gate_up_proj_scale_inv[expert]
                )
                gate, up = both.chunk(2, -1)
                inner = F.silu(gate) * up
                outputs.append(
                    fp8_matmul(inner, self.down_proj[expert], self.down_proj_scale_inv[expert])
                )
        output = torch.empty_like(rows).index_copy_(0, order, torch.cat(outputs))
        output_NAD = output.unflatten(0, (-1, num_chosen))
        return torch.bmm(weights_NA[:, None].to(output.dtype), output_NAD)[:, 0]


def keep_in_fp8(model: nn.Module) -> None:
    """Replace, before it has memory, what a checkpoint in FP8 stores so and whole blocks fill."""
    for prefix, module in list(model.named_modules()):
        for name, child in list(module.named_children()):
            kept = _kept(f"{prefix}.{name}", child)
            if kept is not None:
                setattr(module, name, kept)


@functools.cache
def has_fp8_matmul(device: torch.device) -> bool:
    """Whether `fp8_matmul` runs on this device's FP8 units, and computes what it should.

    Asked of the device itself: support hangs on its generation (9.0: Hopper), the CUDA
    version (12.9) and torch's build, and a wrong layout would give wrong numbers silently.
    """
    if device.type != "cuda" or torch.cuda.get_device_capability(device) != (9, 0):
        return False
    generator = torch.Generator("cpu").manual_seed(0)
    hidden = torch.randn(6, 384, generator=generator)
    weight, scale_inv = quantize_blocks(torch.randn(256, 384, generator=generator))
    expected = fp8_matmul(hidden.bfloat16(), weight, scale_inv).float()
    inputs = (hidden.bfloat16().to(device), weight.to(device), scale_inv.to(device))
    try:
        found = fp8_matmul(*inputs).float().cpu()
    except (RuntimeError, ValueError, NotImplementedError):
        # How torch says that a recipe is not in this build.
        return False
    return bool((found - expected).abs().max() <= _PROBE_TOLERANCE * expected.abs().max())


def fp8_matmul(hidden_NI: Tensor, weight_OI: Tensor, scale_inv: Tensor) -> Tensor:
    """Rows [N, I] times the quantised weight transposed, [N, O], in the rows' dtype."""
    quantized_NI, row_scales = quantize_rows(hidden_NI)
    if not hidden_NI.is_cuda:
        rows = quantized_NI.float() * row_scales.repeat_interleave(BLOCK_SIZE[1], 1)
        weight = dequantize_blocks(weight_OI, scale_inv, torch.float32)
        return F.linear(rows, weight).to(hidden_NI.dtype)
    num_rows = len(hidden_NI)
    # cuBLAS's layouts: as many rows as a multiple of 4, their scales column by column, and
    # the weight's scales in columns of a multiple of 4 (cuBLAS, "1D and 128x128 2D block
    # scaling for FP8"; pytorch, test/test_scaled_matmul_cuda.py).
    quantized_NI = F.pad(quantized_NI.view(torch.uint8), (0, 0, 0, -num_rows % 4))
    row_scales = F.pad(row_scales, (0, 0, 0, -num_rows % 4))
    scale_inv = F.pad(scale_inv, (0, -scale_inv.shape[1] % 4))
    output = F.scaled_mm(
        quantized_NI.view(torch.float8_e4m3fn),
        weight_OI.t(),
        row_scales.t().contiguous().t(),
        F.ScalingType.BlockWise1x128,
        scale_inv.t(),
        F.ScalingType.BlockWise128x128,
        output_dtype=torch.bfloat16,
    )
    return output[:num_rows].to(hidden_NI.dtype)


def quantize_rows(hidden_NI: Tensor) -> tuple[Tensor, Tensor]:
    """Rows in e4m3, and an fp32 scale [N, I / 128] for each 128 values; zeros have scale 1."""
    limit = torch.finfo(torch.float8_e4m3fn).max
    blocks = hidden_NI.float().unflatten(1, (-1, BLOCK_SIZE[1]))
    largest = blocks.abs().amax(-1, keepdim=True)
    scales = torch.where(largest > 0, largest / limit, torch.ones_like(largest))
    # Rounding of the quotient may pass the largest number, which e4m3 makes NaN.
    quantized = (blocks / scales).clamp(-limit, limit).to(torch.float8_e4m3fn)
    return quantized.flatten(1), scales[..., 0]


def _kept(name: str, module: nn.Module) -> nn.Module | None:
    if isinstance(module, Experts):
        is_whole = _fills_blocks(module.gate_up_proj, 2) and _fills_blocks(module.down_proj)
        return Fp8Experts(module) if is_whole else None
    if not isinstance(module, Linear) or module.bias is not None or name.endswith(_NEVER_KEPT):
        return None
    if not is_quantized(f"{name}.weight", module.weight) or not _fills_blocks(module.weight):
        return None
    return Fp8Linear(*module.weight.shape)


def _fills_blocks(weight: Tensor, num_parts: int = 1) -> bool:
    rows, columns = BLOCK_SIZE
    return weight.shape[-2] % (num_parts * rows) == 0 and weight.shape[-1] % columns == 0


def _stored(*shape: int) -> tuple[nn.Parameter, nn.Parameter]:
    """A weight (or a stack of them) and its scales, which wait for a checkpoint."""
    *stack, num_outputs, num_inputs = shape
    scales = (*stack, num_outputs // BLOCK_SIZE[0], num_inputs // BLOCK_SIZE[1])
    return (
        nn.Parameter(torch.empty(shape, dtype=torch.float8_e4m3fn), requires_grad=False),
        nn.Parameter(torch.empty(scales), requires_grad=False),
    )
