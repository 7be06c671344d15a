from __future__ import annotations

import math

import pytest
import torch
from pytest import approx

from r1.models.layers import RMSNorm, RotaryEmbedding, apply_rope, inverse_frequencies
from r1.models.model_config import RopeParameters


def test_rms_norm_divides_by_root_mean_square():
    norm = RMSNorm(2, eps=0.0)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 2.0]))
    assert norm(torch.tensor([[[3.0, 4.0]]])).flatten().tolist() == approx(
        [3 / math.sqrt(12.5), 8 / math.sqrt(12.5)]
    )


def test_default_frequencies():
    rope = RopeParameters(rope_theta=10_000.0)
    assert inverse_frequencies(rope, 4).tolist() == approx([1.0, 0.01])


def test_linear_scaling_divides_every_frequency():
    rope = RopeParameters(rope_type="linear", rope_theta=10_000.0, factor=4.0)
    assert inverse_frequencies(rope, 4).tolist() == approx([0.25, 0.0025])


def test_llama3_scaling_keeps_short_and_divides_long_wavelengths():
    rope = RopeParameters(
        rope_type="llama3",
        rope_theta=1e8,
        factor=8.0,
        original_max_position_embeddings=64,
    )
    plain = inverse_frequencies(RopeParameters(rope_theta=1e8), 8)
    scaled = inverse_frequencies(rope, 8)
    assert scaled[0] == plain[0]
    assert scaled[-1] == approx(plain[-1].item() / 8)


def test_rotation_depends_on_distance_alone(make_config):
    rotary = RotaryEmbedding(make_config())
    query, key = torch.randn(2, 1, 1, 1, 8)

    def product(query_position: int, key_position: int) -> float:
        turned = [
            apply_rope(x, *rotary(torch.tensor([[position]]), torch.float32))
            for x, position in ((query, query_position), (key, key_position))
        ]
        return float((turned[0] * turned[1]).sum())

    assert product(9, 4) == approx(product(105, 100), abs=1e-4)
    assert product(0, 0) == approx(float((query * key).sum()), abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rotation_is_computed_in_fp32_whatever_the_model(make_config, dtype):
    cos, sin = RotaryEmbedding(make_config())(torch.tensor([[1001]]), dtype)
    assert cos.dtype == dtype
    assert cos.flatten()[0].item() == approx(math.cos(1001), abs=0.01)
    assert sin.flatten()[0].item() == approx(math.sin(1001), abs=0.01)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_looked_up_rotations_have_the_bits_of_computed_ones(make_config, dtype):
    rotary = RotaryEmbedding(make_config())
    for shape, last in (((1, 1), 3), ((1, 37), 400), ((2, 129), 5000), ((1, 7), 90_000)):
        positions = torch.randint(0, last, shape)
        positions[0, 0] = last
        for found, computed in zip(
            rotary(positions, dtype), rotary._compute(positions, dtype), strict=True
        ):
            assert found.shape == computed.shape and torch.equal(found, computed)


def test_rotations_first_looked_up_in_inference_serve_training(make_config):
    rotary = RotaryEmbedding(make_config())
    positions = torch.arange(5)[None]
    with torch.inference_mode():
        rotary(positions, torch.float32)
    query = torch.randn(1, 5, 2, 8, requires_grad=True)
    apply_rope(query, *rotary(positions, torch.float32)).sum().backward()
    assert query.grad is not None
