"""Commands that serve a model on vLLM or SGLang, with the flags of the DeepSeek-R1 README."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable
from dataclasses import dataclass

from r1.models.model_config import ModelConfig
from r1.models.sizing import kv_bytes_per_token, weight_bytes

# The README's "Usage Recommendations": maximum generation length of its evaluations.
README_CONTEXT = 32_768
DEFAULT_GPU_BYTES = 80 * 10**9
# What vLLM and SGLang take of a GPU by default.
_USABLE = 0.9


@dataclass(frozen=True, slots=True)
class Launch:
    """What is served, and on how many GPUs.

    The thoughts of a model that `is_reasoning` are split off by the engine's own parser, which
    would take the whole reply of another for a thought.
    """

    model: str
    config: ModelConfig
    dtype: str
    context: int = README_CONTEXT
    is_reasoning: bool = True
    gpu_bytes: int = DEFAULT_GPU_BYTES

    @property
    def tensor_parallel_size(self) -> int:
        """The smallest power of two of GPUs that holds the weights and one whole context.

        Heads are divided among the GPUs, so more of them than KV heads gain nothing for
        the cache, and a number that does not divide the heads cannot run.
        """
        cache = self.context * kv_bytes_per_token(self.config, self.dtype)
        needed = (weight_bytes(self.config, self.dtype) + cache) / (self.gpu_bytes * _USABLE)
        size = 2 ** max(0, math.ceil(math.log2(needed))) if needed > 1 else 1
        while self.config.num_attention_heads % size:
            size *= 2
            if size > self.config.num_attention_heads:
                raise ValueError(
                    f"{self.model}: {self.config.num_attention_heads} heads cannot be divided "
                    f"among the {size // 2} or more GPUs that it needs"
                )
        return size


def vllm_command(launch: Launch) -> str:
    """`vllm serve ...` as in the README."""
    words = ["vllm", "serve", launch.model]
    words += ["--tensor-parallel-size", str(launch.tensor_parallel_size)]
    words += ["--max-model-len", str(launch.context), "--enforce-eager"]
    words += ["--reasoning-parser", "deepseek_r1"] if launch.is_reasoning else []
    return shlex.join(words)


def sglang_command(launch: Launch) -> str:
    """`python3 -m sglang.launch_server ...` as in the README."""
    words = ["python3", "-m", "sglang.launch_server", "--model", launch.model]
    words += ["--trust-remote-code", "--tp", str(launch.tensor_parallel_size)]
    words += ["--context-length", str(launch.context)]
    words += ["--reasoning-parser", "deepseek-r1"] if launch.is_reasoning else []
    return shlex.join(words)


LAUNCHERS: dict[str, Callable[[Launch], str]] = {"vllm": vllm_command, "sglang": sglang_command}
