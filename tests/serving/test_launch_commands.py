from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import pytest

from r1.models.catalogue import resolve_model
from r1.models.presets import PRESETS
from r1.serving.launch_commands import DEFAULT_GPU_BYTES, LAUNCHERS, Launch
from r1.serving.model_facts import launch_command


def launch(name: str, gpu_bytes: int = DEFAULT_GPU_BYTES) -> Launch:
    preset = PRESETS[name]
    dtype = "float8" if "quantization_config" in preset.config else "bfloat16"
    return Launch(preset.hub_id, preset.model_config, dtype, gpu_bytes=gpu_bytes)


@pytest.mark.parametrize(
    ("name", "num_gpus"),
    [
        ("DeepSeek-R1-Distill-Qwen-1.5B", 1),
        ("DeepSeek-R1-Distill-Qwen-7B", 1),
        ("DeepSeek-R1-Distill-Qwen-32B", 2),  # as in the README
        ("DeepSeek-R1-Distill-Llama-70B", 4),
        ("DeepSeek-R1", 16),
    ],
)
def test_gpus_of_80_gb(name: str, num_gpus: int) -> None:
    assert launch(name).tensor_parallel_size == num_gpus


def test_r1_on_eight_h200() -> None:
    assert launch("DeepSeek-R1", gpu_bytes=141 * 10**9).tensor_parallel_size == 8


def test_the_commands_of_the_readme() -> None:
    asked = launch("DeepSeek-R1-Distill-Qwen-32B")
    assert LAUNCHERS["vllm"](asked).startswith(
        "vllm serve deepseek-ai/DeepSeek-R1-Distill-Qwen-32B "
        "--tensor-parallel-size 2 --max-model-len 32768 --enforce-eager"
    )
    assert LAUNCHERS["sglang"](asked).startswith(
        "python3 -m sglang.launch_server --model deepseek-ai/DeepSeek-R1-Distill-Qwen-32B "
        "--trust-remote-code --tp 2"
    )


def test_a_parser_of_thoughts_for_models_that_think() -> None:
    for name, parser in (("vllm", "deepseek_r1"), ("sglang", "deepseek-r1")):
        command = launch_command("DeepSeek-R1-Distill-Qwen-7B", name)
        assert command.endswith(f" --reasoning-parser {parser}")
        assert "--reasoning-parser" not in launch_command("Qwen2.5-Math-7B", name)


def test_other_engines_get_the_path_of_a_model_of_the_catalogue() -> None:
    assert shlex.split(launch_command("tiny", "vllm"))[2] == str(resolve_model("tiny"))


def test_a_folder_s_tokenizer_tells_whether_its_model_thinks(tmp_path: Path) -> None:
    shutil.copytree(resolve_model("tiny"), tmp_path / "m")
    assert "--reasoning-parser" in launch_command(str(tmp_path / "m"), "vllm")
    (tmp_path / "m" / "chat_template.jinja").write_text("{{ messages }}")
    assert "--reasoning-parser" not in launch_command(str(tmp_path / "m"), "vllm")


def test_heads_that_cannot_be_divided() -> None:
    with pytest.raises(ValueError, match="28 heads cannot be divided"):
        _ = launch("DeepSeek-R1-Distill-Qwen-7B", gpu_bytes=10**9).tensor_parallel_size
