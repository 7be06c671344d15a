"""The released models: their published sizes, and what follows from them."""

from __future__ import annotations

import pytest

from r1.models.parameter_count import num_parameters
from r1.models.presets import PRESETS, find_preset

# The totals of the weight files on the hub (the safetensors metadata of each model).
DENSE_PARAMETERS = {
    "DeepSeek-R1-Distill-Qwen-1.5B": 1_777_088_000,
    "DeepSeek-R1-Distill-Qwen-7B": 7_615_616_512,
    "DeepSeek-R1-Distill-Llama-8B": 8_030_261_248,
    "DeepSeek-R1-Distill-Qwen-14B": 14_770_033_664,
    "DeepSeek-R1-Distill-Qwen-32B": 32_763_876_352,
    "DeepSeek-R1-Distill-Llama-70B": 70_553_706_496,
    "Qwen2.5-Math-1.5B": 1_543_714_304,
    "Llama-3.1-8B": 8_030_261_248,
}


@pytest.mark.parametrize("name", DENSE_PARAMETERS)
def test_the_published_number_of_parameters(name: str) -> None:
    assert num_parameters(PRESETS[name].model_config) == DENSE_PARAMETERS[name]


def test_the_eight_models_and_their_bases() -> None:
    released = [p for p in PRESETS.values() if p.name.startswith("DeepSeek-R1")]
    assert len(released) == 8
    for preset in released:
        assert preset.base in PRESETS
        assert preset.license.startswith("MIT")
        assert preset.generation is not None
        assert (preset.generation["temperature"], preset.generation["top_p"]) == (0.6, 0.95)
    for preset in PRESETS.values():
        is_llama = "Llama" in preset.name
        assert ("Built with Llama" in preset.notice) == is_llama
        assert preset.model_config.max_position_embeddings >= 4096


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("DeepSeek-R1", "DeepSeek-R1"),
        ("deepseek-r1", "DeepSeek-R1"),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", "DeepSeek-R1-Distill-Qwen-7B"),
        ("DEEPSEEK-AI/deepseek-r1-distill-qwen-7b", "DeepSeek-R1-Distill-Qwen-7B"),
        ("somebody/DeepSeek-R1", None),
        ("tiny", None),
        ("", None),
    ],
)
def test_names(asked: str, found: str | None) -> None:
    preset = find_preset(asked)
    assert (preset.name if preset else None) == found
