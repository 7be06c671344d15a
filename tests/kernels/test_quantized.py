"""Weights in 8 and 4 bits: what they are rounded to, and products with them."""

from __future__ import annotations

import pytest
import torch

from r1.kernels.fused import Kernels, kernels_of
from r1.kernels.quantized import QuantizedKernels, can_pack, pack_weight

BITS = pytest.mark.parametrize("bits", [8, 4])


@pytest.fixture(params=[torch.bfloat16, torch.float32], ids=str)
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param


@pytest.fixture
def plain(dtype: torch.dtype) -> Kernels:
    found = kernels_of(dtype)
    if found is None:
        pytest.skip("no C compiler")
    return found


def draw(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).to(dtype)


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.double() - expected).norm() / expected.norm())


@pytest.mark.parametrize(("bits", "error"), [(8, 0.0055), (4, 0.079)])
def test_rounding_of_normal_weights(bits: int, error: float) -> None:
    """Groups of 32 span about 4.1 deviations: steps of 4.1 / 15, or of twice 2.1 / 254."""
    weight = draw(300, 640)
    packed = pack_weight(weight, bits)
    assert relative_error(packed.dequantize(), weight) == pytest.approx(error, rel=0.05)
    assert packed.num_bytes * 8 / (304 * 640) == bits + 1


def test_what_has_sixteen_levels_is_kept() -> None:
    """A group of 16 equal steps is exact: GGUF's Q4_1 opens and is quantized again as it was."""
    levels = torch.randint(0, 16, (48, 3, 32), generator=torch.Generator().manual_seed(0))
    levels[:, :, :2] = torch.tensor([0, 15])
    weight = (levels * 0.25 - 1.5).flatten(1)
    assert torch.equal(pack_weight(weight, 4).dequantize(), weight)
    assert torch.equal(pack_weight(torch.zeros(16, 32), 4).dequantize(), torch.zeros(16, 32))
    flat = torch.full((16, 32), -2.0)
    assert torch.equal(pack_weight(flat, 4).dequantize(), flat)


@BITS
@pytest.mark.parametrize("num_rows", [1, 2, 3, 4, 5, 37])
@pytest.mark.parametrize(("num_inputs", "sizes"), [(32, (5,)), (96, (48, 16, 16)), (576, (70, 9))])
def test_product_is_that_of_the_rounded_weights(
    plain: Kernels,
    dtype: torch.dtype,
    bits: int,
    num_rows: int,
    num_inputs: int,
    sizes: tuple[int, ...],
) -> None:
    """Inputs lose 8 bits: half a step of 127, of values spread over two deviations of it."""
    x = draw(num_rows, num_inputs, dtype=dtype)
    weights = [draw(size, num_inputs, dtype=dtype) for size in sizes]
    biases = [draw(size, dtype=dtype) if size % 2 else None for size in sizes]
    packed = {weight.data_ptr(): pack_weight(weight, bits) for weight in weights}
    kernels = QuantizedKernels(plain, packed)
    assert kernels.takes(x, weights[0]) and not kernels.takes(x, x)
    found = kernels.linear(x, weights, biases).split(list(sizes), -1)
    for part, weight, bias in zip(found, weights, biases, strict=True):
        expected = x.double() @ packed[weight.data_ptr()].dequantize().double().T
        expected += 0 if bias is None else bias.double()
        assert relative_error(part, expected) < 0.015
    if len(sizes) == 1:
        gated = kernels.linear(x, weights * 2, (None, None), is_gated=True)
        product = kernels.linear(x, weights, (None,))
        expected = torch.nn.functional.silu(product.double()) * product.double()
        assert relative_error(gated, expected) < 0.01


@BITS
def test_a_row_does_not_depend_on_its_batch(plain: Kernels, dtype: torch.dtype, bits: int) -> None:
    x, weight = draw(70, 576, dtype=dtype), draw(100, 576, dtype=dtype)
    kernels = QuantizedKernels(plain, {weight.data_ptr(): pack_weight(weight, bits)})
    together = kernels.linear(x, (weight,), (None,))
    for first, last in ((0, 1), (3, 6), (50, 67)):
        assert torch.equal(kernels.linear(x[first:last], (weight,), (None,)), together[first:last])


@BITS
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_stays_so(
    plain: Kernels, dtype: torch.dtype, bits: int, bad: float
) -> None:
    x, weight = draw(2, 64, dtype=dtype), draw(16, 64, dtype=dtype)
    x[1, 40] = bad
    kernels = QuantizedKernels(plain, {weight.data_ptr(): pack_weight(weight, bits)})
    found = kernels.linear(x, (weight,), (None,))
    assert found[0].isfinite().all() and not found[1].isfinite().any()


def test_only_whole_groups() -> None:
    assert can_pack(torch.zeros(3, 64)) and not can_pack(torch.zeros(3, 48))
