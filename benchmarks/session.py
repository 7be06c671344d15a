"""What the suites share: models, contestants, rounds, floors, and the machine's limits."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contestants import Arena, Worker
from measurement import Floors, Rounds

from r1.models.model_config import ModelConfig
from r1.models.parameter_count import num_active_parameters
from r1.models.sizing import kv_bytes_per_token, touched_weight_bytes


@dataclass(frozen=True)
class Target:
    """A model to run: a folder, or (`shape`) random weights of a released config.

    `peers` are those that run it, with the largest batch of each: beyond it a round would
    take the time of all others.
    """

    label: str
    folder: Path
    dtype: str
    peers: Mapping[str, int]
    shape: Mapping[str, Any] | None = None

    @property
    def config(self) -> ModelConfig:
        raw = self.shape or json.loads((self.folder / "config.json").read_text(encoding="utf-8"))
        return ModelConfig.from_dict(dict(raw))


@dataclass(frozen=True)
class Machine:
    """Measured bytes a second of reading, and flops a second of a large matmul by dtype."""

    bandwidth: float
    flops: Mapping[str, float]

    def decode(self, target: Target, batch: int, context: int) -> float:
        """Tokens a second at most: every step reads the weights and each sequence's cache once,
        and does 2 flops a weight and token, and 4 a key value."""
        config, dtype = target.config, target.dtype
        read = touched_weight_bytes(config, dtype, batch)
        read += batch * context * kv_bytes_per_token(config, dtype)
        flops = batch * (2 * num_active_parameters(config) + 4 * _key_values(config) * context)
        return batch / max(read / self.bandwidth, flops / self.flops[dtype])

    def prefill(self, target: Target, batch: int, num_tokens: int) -> float:
        """Tokens a second at most; of a prompt only the last token needs the vocabulary."""
        config = target.config
        head = config.vocab_size * config.hidden_size
        flops = 2 * (num_active_parameters(config) - head) + 2 * _key_values(config) * num_tokens
        return self.flops[target.dtype] / flops

    def training_flops(self, config: ModelConfig, length: int) -> float:
        """A token's share of a step: 6 flops a weight (2 forward, 4 backward), and causal
        attention's 6 x layers x heads x head size x length. Recomputing counts as nothing."""
        return 6 * num_active_parameters(config) + 6 * _key_values(config) * length


def _key_values(config: ModelConfig) -> int:
    return config.num_hidden_layers * config.num_attention_heads * config.head_dim


@dataclass
class Bench:
    """One run of the benchmarks."""

    arena: Arena
    floors: Floors
    usual_rounds: Rounds
    is_quick: bool
    machine: Machine
    deadline: float
    """Of time.perf_counter(); what begins after it has one round."""

    @property
    def rounds(self) -> Rounds:
        """Of the case that begins now."""
        is_late = time.perf_counter() > self.deadline
        return Rounds(0, least=1, most=1, warm_up=False) if is_late else self.usual_rounds

    def workers(
        self, target: Target, names: Sequence[str], cache_bytes: int | None = None
    ) -> dict[str, Worker]:
        """Those of the contestants that are there, with the model open."""
        found = {}
        for name in names:
            if name != "ours" and name not in target.peers:
                continue
            worker = self.arena.enter(name, **self._options(target, name, cache_bytes))
            if worker is not None:
                found[name] = worker
        return found

    def _options(self, target: Target, name: str, cache_bytes: int | None) -> dict[str, Any]:
        if name.startswith("llama.cpp"):
            kind = "Q4_1" if "Q4_1" in name else "bf16"
            path = target.folder.with_name(f"{target.folder.name}-{kind}.gguf")
            return {"model": str(path), "dtype": kind, "num_threads": self.arena.num_threads}
        options: dict[str, Any] = {"model": str(target.folder), "dtype": target.dtype}
        if target.shape is not None:
            options["shape"] = dict(target.shape)
        if name.startswith("ours"):
            # On a CPU as much as vLLM is given.
            usual = 2**31 if self.arena.device == "cpu" else 40 * 2**30
            # Which takes all of it at the start.
            is_touched = "vLLM" in target.peers and not self.is_quick
            cache = {"kv_cache_bytes": cache_bytes or usual, "touch_cache": is_touched}
            options["engine"] = {**cache, "exact": "exact" in name}
            if "int4" in name:
                options["engine"]["quantize"] = "int4"
        return options
