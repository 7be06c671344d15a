"""Rotation and gate of a GPU against torch."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from r1.models.layers import rotate_pairs
from tests.kernels.triton_kernels import DEVICE, import_triton

TOLERANCE = {torch.float32: 1e-6, torch.bfloat16: 2.0**-7, torch.float16: 2.0**-10}


@pytest.fixture(autouse=True)
def triton(monkeypatch: pytest.MonkeyPatch) -> None:
    import_triton(monkeypatch)


def draw(*shape: int, dtype: torch.dtype) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator).to(DEVICE, dtype)


def assert_close(found: torch.Tensor, expected: torch.Tensor) -> None:
    error = (found.double() - expected).abs().max() / expected.abs().max()
    assert error < TOLERANCE[found.dtype], error


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize(("num_heads", "head_dim"), [(1, 2), (3, 20), (7, 64), (32, 128)])
def test_rotation(num_heads: int, head_dim: int, dtype: torch.dtype) -> None:
    from r1.kernels.triton_layers import GpuKernels

    angles = draw(5, 1, head_dim // 2, dtype=torch.float64) * 3
    cos, sin = (torch.cat((part, part), -1).to(dtype) for part in (angles.cos(), angles.sin()))
    wide = draw(5, num_heads, head_dim + 3, dtype=dtype)
    for heads in (wide[..., :head_dim].contiguous(), wide[..., :head_dim], wide[..., ::1][..., 3:]):
        found = GpuKernels(1).rotate(heads, cos, sin)
        assert_close(found, rotate_pairs(heads.double(), cos.double(), sin.double()))


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("shape", [(1, 1), (3, 341), (2, 4, 512)], ids=str)
def test_gate(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    from r1.kernels.triton_layers import GpuKernels

    gate, up = draw(*shape, dtype=dtype), draw(*shape, 2, dtype=dtype)[..., 0]
    expected = F.silu(gate.double()) * up.double()
    assert_close(GpuKernels(1).gate(gate.clone(), up), expected)
    spread = draw(*shape[:-1], 2 * shape[-1], dtype=dtype)[..., : shape[-1]]
    expected = F.silu(spread.double()) * up.double()
    assert_close(GpuKernels(1).gate(spread, up), expected)


def test_the_probe_passes() -> None:
    from r1.kernels.triton_layers import probe

    probe(DEVICE)
