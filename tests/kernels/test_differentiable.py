from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from r1.kernels.differentiable import TrainingKernels, training_kernels_of
from r1.kernels.fused import kernels_of
from r1.models.layers import rotate_pairs


def kernels() -> TrainingKernels:
    found = training_kernels_of(torch.float32)
    if found is None:
        pytest.skip("no C kernels here")
    return found


def check(ours: Callable[..., Tensor], theirs: Callable[..., Tensor], *inputs: Tensor) -> None:
    """Values and gradients of two functions, in fp32 and against bf16's own rounding."""
    inputs = tuple(t.requires_grad_() for t in inputs)
    expected = theirs(*inputs)
    weight = torch.randn(expected.shape)
    gradients = torch.autograd.grad((expected * weight).sum(), inputs)
    actual = ours(*inputs)
    torch.testing.assert_close(actual, expected, atol=1e-6, rtol=1e-5)
    found = torch.autograd.grad((actual * weight).sum(), inputs)
    for mine, reference in zip(found, gradients, strict=True):
        torch.testing.assert_close(mine, reference, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("shape", [(1, 1, 16), (3, 70, 48), (2, 5, 7)])
def test_norm(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(shape), torch.randn(shape[-1])
    check(
        lambda x, w: kernels().rms_norm(x, w, 1e-5),
        lambda x, w: F.rms_norm(x, w.shape, w, 1e-5),
        x,
        weight,
    )


@pytest.mark.parametrize("shape", [(1, 16), (2, 40, 48), (3, 5)])
def test_gate(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    check(
        kernels().gate, lambda gate, up: F.silu(gate) * up, torch.randn(shape), torch.randn(shape)
    )


def test_gates_far_below_zero_are_closed() -> None:
    gate = torch.tensor([-80.0, -88.5, -100, -200, -3e4, -1e30, 0, 300]).repeat(2)
    check(kernels().gate, lambda gate, up: F.silu(gate) * up, gate[None], torch.ones(1, 16))


@pytest.mark.parametrize("head_dim", [8, 32, 64])
def test_rotation_of_heads_in_a_wider_row(head_dim: int) -> None:
    torch.manual_seed(0)
    angles = torch.randn(20, head_dim // 2)
    cos, sin = (torch.cat((t, t), -1) for t in (angles.cos(), angles.sin()))
    check(
        lambda x: kernels().rotate(x[:, 1:4], cos, sin),
        lambda x: rotate_pairs(x[:, 1:4], cos[:, None], sin[:, None]),
        torch.randn(20, 5, head_dim),
    )


def test_half_precision_rounds_once_and_as_inference_does() -> None:
    torch.manual_seed(0)
    ours, inference = training_kernels_of(torch.bfloat16), kernels_of(torch.bfloat16)
    if ours is None or inference is None:
        pytest.skip("no C kernels here")
    exact = [torch.randn(30, 64), torch.randn(64)]
    rounded = [t.bfloat16().requires_grad_() for t in exact]
    actual = ours.rms_norm(rounded[0], rounded[1], 1e-5)
    with torch.no_grad():
        assert torch.equal(actual, inference.rms_norm(rounded[0], rounded[1], 1e-5))
    plain = [t.detach().float().requires_grad_() for t in rounded]
    expected = F.rms_norm(plain[0], plain[1].shape, plain[1], 1e-5)
    for mine, theirs in zip(
        torch.autograd.grad(actual.sum(), rounded),
        torch.autograd.grad(expected.sum(), plain),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs.bfloat16(), atol=0.05, rtol=0.01)
