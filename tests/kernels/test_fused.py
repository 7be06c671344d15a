"""Each kernel against torch, over shapes that do not divide by the vector."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from r1.kernels.fused import Kernels, inference_kernels_for, kernels_for, kernels_of
from r1.models.layers import apply_rope

DTYPES = (torch.bfloat16, torch.float32)


@pytest.fixture(params=DTYPES, ids=str)
def kernels(request: pytest.FixtureRequest) -> Kernels:
    found = kernels_of(request.param)
    if found is None:
        pytest.skip("no C compiler")
    return found


@pytest.fixture
def dtype(kernels: Kernels) -> torch.dtype:
    return torch.bfloat16 if kernels is kernels_of(torch.bfloat16) else torch.float32


def draw(*shape: int, dtype: torch.dtype) -> torch.Tensor:
    generator = torch.Generator().manual_seed(hash(shape) % 2**31)
    return torch.randn(shape, generator=generator).to(dtype)


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.double() - expected).abs().max() / expected.abs().max())


def tolerance(dtype: torch.dtype) -> float:
    """One rounding of the result, and in fp32 the order of the additions."""
    return 2.0**-8 if dtype == torch.bfloat16 else 5e-6


@pytest.mark.parametrize("num_rows", [1, 7, 16, 17, 40, 65, 128, 163, 257, 769, 1031])
@pytest.mark.parametrize(("num_inputs", "sizes"), [(8, (5,)), (34, (24, 8, 9)), (576, (75,))])
def test_linear_equals_the_products(
    kernels: Kernels, dtype: torch.dtype, num_rows: int, num_inputs: int, sizes: tuple[int, ...]
) -> None:
    x = draw(num_rows, num_inputs, dtype=dtype)
    weights = [draw(size, num_inputs, dtype=dtype) for size in sizes]
    biases = [draw(size, dtype=dtype) if size % 2 else None for size in sizes]
    found = kernels.linear(x, weights, biases).split(list(sizes), -1)
    for part, weight, bias in zip(found, weights, biases, strict=True):
        expected = x.double() @ weight.double().T + (0 if bias is None else bias.double())
        assert relative_error(part, expected) < tolerance(dtype)


@pytest.mark.parametrize("num_rows", [1, 2, 5, 8])
def test_the_faster_product_for_few_rows(
    kernels: Kernels, dtype: torch.dtype, num_rows: int
) -> None:
    fast = replace(kernels, max_dot_rows=8)
    x, weights = draw(num_rows, 576, dtype=dtype), [draw(n, 576, dtype=dtype) for n in (75, 24)]
    biases = (draw(75, dtype=dtype), None)
    for part, weight, bias in zip(
        fast.linear(x, weights, biases).split([75, 24], -1), weights, biases, strict=True
    ):
        expected = x.double() @ weight.double().T + (0 if bias is None else bias.double())
        assert relative_error(part, expected) < tolerance(dtype)
    gate, up = draw(21, 576, dtype=dtype) / 24, draw(21, 576, dtype=dtype)
    expected = F.silu(x.double() @ gate.double().T) * (x.double() @ up.double().T)
    found = fast.linear(x, (gate, up), (None, None), is_gated=True)
    assert relative_error(found, expected) < tolerance(dtype)


@pytest.mark.parametrize("num_rows", [1, 33, 200, 900])
def test_gated_linear(kernels: Kernels, dtype: torch.dtype, num_rows: int) -> None:
    x = draw(num_rows, 48, dtype=dtype) / 7
    gate, up = draw(21, 48, dtype=dtype), draw(21, 48, dtype=dtype) / 2
    expected = F.silu(x.double() @ gate.double().T) * (x.double() @ up.double().T)
    found = kernels.linear(x, (gate, up), (None, None), is_gated=True)
    assert relative_error(found, expected) < tolerance(dtype)
    both = kernels.gate((x @ gate.T).contiguous(), (x @ up.T).contiguous())
    assert relative_error(both, expected) < 8 * tolerance(dtype)


@pytest.mark.parametrize("max_dot_rows", [0, 16])
def test_gates_far_below_zero_are_closed(
    kernels: Kernels, dtype: torch.dtype, max_dot_rows: int
) -> None:
    values = torch.tensor([-80.0, -88.5, -100, -200, -3e4, -1e30, 0, 300]).repeat(4).to(dtype)
    expected = F.silu(values.double())
    found = kernels.gate(values.clone(), torch.ones_like(values))
    torch.testing.assert_close(found.double(), expected, rtol=0.01, atol=1e-8)
    # One input of 1 in 32: the products are the values themselves.
    x, ones = torch.eye(1, 32, dtype=dtype), torch.ones(32, 32, dtype=dtype)
    multiply = replace(kernels, max_dot_rows=max_dot_rows).linear
    found = multiply(x, (values[:, None] * ones, ones), (None, None), is_gated=True)
    torch.testing.assert_close(found[0].double(), expected, rtol=0.01, atol=1e-8)


def test_a_row_does_not_depend_on_its_batch(kernels: Kernels, dtype: torch.dtype) -> None:
    # More inputs and outputs than a block or a call's packed weights hold, odd counts of all.
    for num_inputs, size in ((576, 200), (18, 97), (3334, 1100)):
        x, weights = draw(931, num_inputs, dtype=dtype), [draw(size, num_inputs, dtype=dtype)] * 2
        for is_gated in (False, True):
            together = kernels.linear(x, weights, (None, None), is_gated)
            for first, last in ((0, 1), (3, 20), (50, 149), (2, 162), (100, 331), (5, 900)):
                alone = kernels.linear(x[first:last], weights, (None, None), is_gated)
                assert torch.equal(alone, together[first:last])


@pytest.mark.parametrize(("num_rows", "size"), [(1, 576), (5, 33), (40, 64)])
def test_rms_norm(kernels: Kernels, dtype: torch.dtype, num_rows: int, size: int) -> None:
    x, weight = draw(num_rows, size, dtype=dtype), draw(size, dtype=dtype)
    expected = F.rms_norm(x.double(), (size,), weight.double(), 1e-5)
    assert relative_error(kernels.rms_norm(x, weight, 1e-5), expected) < tolerance(dtype)


@pytest.mark.parametrize(("num_tokens", "head_dim"), [(1, 64), (20, 24), (3, 8)])
def test_rotation_equals_the_layers(
    kernels: Kernels, dtype: torch.dtype, num_tokens: int, head_dim: int
) -> None:
    heads_BTHK = draw(1, num_tokens, 5, 2 * head_dim, dtype=dtype)[:, :, 1:4, head_dim:]
    angles = draw(1, num_tokens, 1, head_dim // 2, dtype=torch.float32).repeat(1, 1, 1, 2)
    cos, sin = angles.cos().to(dtype), angles.sin().to(dtype)
    expected = apply_rope(heads_BTHK.double(), cos.double(), sin.double())
    with torch.no_grad():
        assert relative_error(apply_rope(heads_BTHK, cos, sin), expected) < tolerance(dtype)


def test_only_inference_on_cpus_takes_them() -> None:
    assert inference_kernels_for(torch.zeros(1)) is None
    with torch.no_grad():
        found = inference_kernels_for(torch.zeros(1))
        assert found is kernels_for(torch.zeros(1))
        assert (found is None) == (kernels_of(torch.float32) is None)
        assert inference_kernels_for(torch.zeros(1, dtype=torch.float16)) is None
        assert inference_kernels_for(torch.zeros(1, device="meta")) is None
