"""Memory and speed by hand-worked numbers."""

from __future__ import annotations

import pytest
import torch

from r1.models import sizing
from r1.models.parameter_count import num_parameters, num_prediction_parameters
from r1.models.presets import PRESETS

QWEN_7B = PRESETS["DeepSeek-R1-Distill-Qwen-7B"].model_config
R1 = PRESETS["DeepSeek-R1"].model_config


def test_cache_of_a_token() -> None:
    # 28 layers x 4 KV heads x 128 values, keys and values.
    assert sizing.kv_values_per_token(QWEN_7B) == 2 * 28 * 4 * 128
    assert sizing.kv_bytes_per_token(QWEN_7B, "bfloat16") == 57_344
    # Latent attention: 512 + 64 values a layer, whatever the number of heads.
    assert sizing.kv_values_per_token(R1) == 61 * 576
    assert sizing.kv_bytes_per_token(R1, "float8") == 61 * 576 * 2


def test_what_a_step_reads() -> None:
    one = sizing.touched_weight_bytes(QWEN_7B, "bfloat16", 1)
    assert one == 2 * (7_615_616_512 - 152_064 * 3584)
    assert sizing.touched_weight_bytes(QWEN_7B, "bfloat16", 64) == one  # dense: the same
    # One sequence reads 8 of 256 experts, about 37B parameters; many read nearly all.
    assert 36e9 < sizing.touched_weight_bytes(R1, "float8", 1) < 38e9
    total = num_parameters(R1)
    assert 0.98 * total < sizing.touched_weight_bytes(R1, "float8", 256) < total


def test_needs_are_weights_cache_and_the_bound_of_bandwidth() -> None:
    rows = sizing.needs(QWEN_7B, "bfloat16", [1024, 10**9], [1, 2], bandwidth=1e12)
    asked = [(row.context, row.batch) for row in rows]
    assert asked == [(1024, 1), (1024, 2), (131_072, 1), (131_072, 2)]
    cache = 1024 * 57_344
    assert rows[0].num_bytes == pytest.approx((2 * 7_615_616_512 + cache) * 1.05, abs=1)
    read = sizing.touched_weight_bytes(QWEN_7B, "bfloat16", 2) + 2 * cache
    assert rows[1].tokens_per_second == pytest.approx(2 * 1e12 / read)
    assert sizing.needs(QWEN_7B, "bfloat16", [1024], [1], None)[0].tokens_per_second is None


def test_drafts_take_their_layer_and_its_cache() -> None:
    plain, drafting = (sizing.needs(R1, "bfloat16", [1000], [4], 1e12, n)[0] for n in (0, 2))
    layer, cache = sizing.draft_weight_bytes(R1, "bfloat16"), 4 * 1000 * 576 * 2
    # An expert layer of 11.5B, of which attention and the shared expert are 0.24B.
    assert layer == 2 * num_prediction_parameters(R1) and 22e9 < layer < 24e9
    more = drafting.num_bytes - plain.num_bytes
    assert more == pytest.approx((layer + cache) * 1.05, abs=2)
    # At most three tokens a step, which reads the experts of twelve and drafts twice.
    read = sizing.touched_weight_bytes(R1, "bfloat16", 12) + 4 * 1000 * 62 * 576 * 2
    read += 2 * sizing.touched_draft_bytes(R1, "bfloat16", 4)
    assert drafting.tokens_per_second == pytest.approx(12 * 1e12 / read)
    head = 2 * 129_280 * 7168
    # 1 - (1 - 8/256)^4 of 256 experts of 44M, and all of the rest.
    experts = 256 * 3 * 7168 * 2048
    others = num_prediction_parameters(R1) - experts
    expected = 2 * (others + experts * (1 - (1 - 8 / 256) ** 4)) + head
    assert sizing.touched_draft_bytes(R1, "bfloat16", 4) == pytest.approx(expected, abs=2)
    with pytest.raises(ValueError, match="no multi-token-prediction layer"):
        sizing.needs(QWEN_7B, "bfloat16", [1024], [1], None, 1)


def test_this_machine() -> None:
    device = torch.device("cpu")
    assert sizing.measure_bandwidth(device) > 1e8
    free = sizing.available_bytes(device)
    assert free is None or free > 1 << 20
