from __future__ import annotations

import pytest

from r1.models.model_config import ModelConfig

OLD_LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 89,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "rope_theta": 500000.0,
    "rope_scaling": None,
    "bos_token_id": 7,
    "my_own_note": {"kept": True},
}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}


def test_round_trip_keeps_every_key():
    config = ModelConfig.from_dict(OLD_LLAMA)
    written = config.to_dict()
    for key, value in OLD_LLAMA.items():
        if value is not None:
            assert written[key] == value
    assert written["head_dim"] == 8
    assert ModelConfig.from_dict(written) == config


@pytest.mark.parametrize(
    "changes",
    [
        {"rope_scaling": LLAMA3},
        {"rope_scaling": {**LLAMA3, "type": "llama3"}},
        {"rope_theta": None, "rope_parameters": {**LLAMA3, "rope_theta": 500000.0}},
        {"rope_scaling": LLAMA3, "rope_parameters": {**LLAMA3, "rope_theta": 500000.0}},
    ],
)
def test_old_and_new_rope_keys_mean_the_same(changes):
    config = ModelConfig.from_dict({**OLD_LLAMA, **changes})
    assert config.rope.rope_type == "llama3"
    assert config.rope.rope_theta == 500000.0
    written = config.to_dict()
    assert written["rope_theta"] == 500000.0
    assert written["rope_scaling"] == {**LLAMA3, "type": "llama3"}
    assert written["rope_parameters"] == {**LLAMA3, "rope_theta": 500000.0}


def test_bias_rules_of_the_families():
    llama = ModelConfig.from_dict({**OLD_LLAMA, "attention_bias": True})
    qwen2 = ModelConfig.from_dict({**OLD_LLAMA, "architectures": ["Qwen2ForCausalLM"]})
    assert (llama.has_qkv_bias, llama.has_output_bias) == (True, True)
    assert (qwen2.has_qkv_bias, qwen2.has_output_bias) == (True, False)


def test_family_comes_from_model_type_when_architectures_are_absent():
    config = ModelConfig.from_dict({**OLD_LLAMA, "architectures": None, "model_type": "qwen2"})
    assert config.architecture == "Qwen2ForCausalLM"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"architectures": ["MistralForCausalLM"]}, ["MistralForCausalLM", "Qwen2ForCausalLM"]),
        ({"architectures": ["Qwen3ForCausalLM"]}, ["did you mean 'Qwen2ForCausalLM'"]),
        ({"architectures": None, "model_type": None}, ["missing key architectures"]),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2}}, ["'dynamic'", "linear", "yarn"]),
        ({"rope_scaling": {"type": "yarn", "factor": 2, "truncate": False}}, ["truncate"]),
        ({"rope_scaling": {"type": "linear"}}, ["factor"]),
        ({"hidden_act": "gelu"}, ["hidden_act 'gelu'", "silu"]),
        ({"hidden_size": None}, ["missing key hidden_size"]),
        ({"hidden_size": "32"}, ["hidden_size", "'32'"]),
        ({"num_hidden_layers": 0}, ["num_hidden_layers", "above 0"]),
        ({"num_key_value_heads": 3}, ["num_key_value_heads (3)"]),
        ({"head_dim": 7}, ["head_dim", "even"]),
        ({"use_sliding_window": True}, ["sliding-window"]),
        ({"layer_types": ["full_attention", "sliding_attention"]}, ["sliding-window"]),
        ({"quantization_config": {"quant_method": "gptq"}}, ["quantised"]),
    ],
)
def test_what_is_not_supported_is_named_in_one_line(changes, words):
    with pytest.raises(ValueError) as caught:
        ModelConfig.from_dict({**OLD_LLAMA, **changes}, source="here/config.json")
    message = str(caught.value)
    assert message.startswith("here/config.json: ") and "\n" not in message
    for word in words:
        assert word in message
