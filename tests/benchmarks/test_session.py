from __future__ import annotations

from pathlib import Path

import pytest
from pytest import approx
from session import Machine, Target

SHAPE = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 4,
    "vocab_size": 100,
    "max_position_embeddings": 64,
    "tie_word_embeddings": True,
}
# Layers: 16x16 + 2x 16x8 + 16x16 attention, 3x 16x32 MLP, 2x 16 norms; embedding; last norm.
NUM_WEIGHTS = 2 * (256 + 256 + 256 + 1536 + 32) + 1600 + 16
TARGET = Target("x", Path("unused"), "bfloat16", {}, SHAPE)


def test_decoding_is_bound_by_reading_or_by_arithmetic() -> None:
    # A key and a value of 8 numbers in 2 layers, 2 bytes each: 64 bytes a token.
    read = 2 * NUM_WEIGHTS + 3 * 10 * 64
    slow_memory = Machine(bandwidth=1e3, flops={"bfloat16": 1e12})
    assert slow_memory.decode(TARGET, 3, 10) == approx(3 * 1e3 / read)
    flops = 2 * NUM_WEIGHTS + 4 * (2 * 4 * 4) * 10
    slow_cores = Machine(bandwidth=1e12, flops={"bfloat16": 1e3})
    assert slow_cores.decode(TARGET, 3, 10) == approx(1e3 / flops)


def test_prefill_leaves_the_vocabulary_out() -> None:
    machine = Machine(bandwidth=1.0, flops={"bfloat16": 1e6})
    flops = 2 * (NUM_WEIGHTS - 1600) + 2 * (2 * 4 * 4) * 10
    assert machine.prefill(TARGET, 1, 10) == approx(1e6 / flops)


@pytest.mark.parametrize("length", [256, 8192])
def test_a_training_token_takes_six_flops_a_weight_and_causal_attention(length: int) -> None:
    machine = Machine(bandwidth=1.0, flops={})
    flops = machine.training_flops(TARGET.config, length)
    assert flops == 6 * NUM_WEIGHTS + 6 * (2 * 4 * 4) * length
