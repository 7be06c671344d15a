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
