"""Models in llama.cpp's GGUF files, dequantised into the same models as other checkpoints."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from r1.models.architectures import allocate_model
from r1.models.gguf_deepseek import GgufWeight, as_tensor, deepseek_config, deepseek_weights
from r1.models.gguf_tensors import GgufTensors
from r1.models.language_model import LanguageModel
from r1.models.layers import inverse_frequencies
from r1.models.model_config import ModelConfig, RopeParameters, unknown_name_message
from r1.models.weights import StoredTensor, check_stored, fill_weights


@dataclass(frozen=True, slots=True)
class _Family:
    """What llama.cpp's converter does to one dense architecture."""

    architecture: str
    is_rope_permuted: bool


_FAMILIES = {
    "llama": _Family("LlamaForCausalLM", is_rope_permuted=True),
    "qwen2": _Family("Qwen2ForCausalLM", is_rope_permuted=False),
}
_DEEPSEEK = "deepseek2"
_ARCHITECTURES = (*_FAMILIES, _DEEPSEEK)

_LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}

# What llama3's RoPE scaling divides each frequency by.
_ROPE_FACTORS = "rope_freqs.weight"

_TOP_NAMES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}


class GgufCheckpoint:
    """An open GGUF file: its config, and its tensors under Hugging Face names."""

    def __init__(self, path: str | Path) -> None:
        """Open and check `path`; ValueError when it is no GGUF file or of another family.

        A file that was split is opened by its first part.
        """
        self.path = Path(path)
        self._tensors = GgufTensors(self.path)
        self._metadata = self._tensors.metadata
        name = self._metadata.get("general.architecture")
        if name not in _ARCHITECTURES:
            message = unknown_name_message("GGUF architecture", name, _ARCHITECTURES)
            raise ValueError(f"{self.path}: {message}")
        self._prefix: str = name
        self.config = ModelConfig.from_dict(self._config_dict(), source=str(self.path))
        is_deepseek = name == _DEEPSEEK
        weights = deepseek_weights(self._tensors) if is_deepseek else self._dense_weights()
        self._weights = list(weights)

    def stored(self) -> dict[str, StoredTensor]:
        """Every weight that `tensors` gives, by its Hugging Face name."""
        return {each.name: StoredTensor(each.file, "F32", each.shape) for each in self._weights}

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Every weight as fp32, named and laid out as in a Hugging Face checkpoint."""
        return ((each.name, each.load()) for each in self._weights)

    def _dense_weights(self) -> Iterator[GgufWeight]:
        for name, tensor in self._tensors.by_name.items():
            if name == _ROPE_FACTORS:
                continue
            file, target = self._tensors.file_of(name), hf_tensor_name(name)
            if target is None:
                raise ValueError(f"{file}: tensor {name} is not supported")
            yield GgufWeight(target, tensor.shape, file, functools.partial(self._unpermuted, name))

    def _unpermuted(self, name: str) -> Tensor:
        """The weight, with the converter's row order of q and k undone (pairs to halves)."""
        rows = as_tensor(self._tensors.values(name))
        part = name.split(".")[-2]
        if not _FAMILIES[self._prefix].is_rope_permuted or part not in ("attn_q", "attn_k"):
            return rows
        heads = self.config.num_attention_heads
        if part == "attn_k":
            heads = self.config.num_key_value_heads
        pairs = rows.view(heads, -1, 2, *rows.shape[1:])
        return pairs.transpose(1, 2).reshape(rows.shape)

    def _architecture_value(self, key: str, default: Any = None) -> Any:
        value = self._metadata.get(f"{self._prefix}.{key}", default)
        if value is None:
            raise ValueError(f"{self.path}: missing metadata {self._prefix}.{key}")
        return value

    def _config_dict(self) -> dict[str, Any]:
        """The file's metadata as the `config.json` it was converted from."""
        value = self._architecture_value
        embedding = self._tensors.by_name.get("token_embd.weight")
        if embedding is None:
            raise ValueError(f"{self.path}: missing tensor token_embd.weight")
        heads, width = value("attention.head_count"), value("embedding_length")
        if not all(isinstance(size, int) and size > 0 for size in (heads, width)):
            raise ValueError(f"{self.path}: {heads!r} heads in a width of {width!r}")
        raw = {
            "vocab_size": embedding.shape[0],
            "hidden_size": width,
            "intermediate_size": value("feed_forward_length"),
            "num_hidden_layers": value("block_count"),
            "num_attention_heads": heads,
            "max_position_embeddings": value("context_length"),
            "rms_norm_eps": _shortest_float(value("attention.layer_norm_rms_epsilon")),
            "tie_word_embeddings": "output.weight" not in self._tensors,
            "rope_theta": _shortest_float(value("rope.freq_base", 10_000.0)),
        }
        for token in ("bos", "eos", "padding"):
            token_id = self._metadata.get(f"tokenizer.ggml.{token}_token_id")
            if token_id is not None:
                raw[f"{token.removesuffix('ding')}_token_id"] = token_id
        if self._prefix == _DEEPSEEK:
            return raw | deepseek_config(self.path, self._tensors, value)
        return raw | self._dense_config(heads, width, raw["rope_theta"])

    def _dense_config(self, heads: int, width: int, theta: float) -> dict[str, Any]:
        value = self._architecture_value
        head_dim = value("attention.key_length", width // heads)
        if value("rope.dimension_count", head_dim) != head_dim:
            raise ValueError(f"{self.path}: RoPE on a part of each head is not supported")
        return {
            "architectures": [_FAMILIES[self._prefix].architecture],
            "num_key_value_heads": value("attention.head_count_kv", heads),
            "head_dim": head_dim,
            "attention_bias": "blk.0.attn_output.bias" in self._tensors,
            "mlp_bias": "blk.0.ffn_down.bias" in self._tensors,
            "rope_scaling": self._rope_scaling(theta, head_dim),
        }

    def _rope_scaling(self, theta: float, head_dim: int) -> dict[str, Any] | None:
        if _ROPE_FACTORS in self._tensors:
            factors = self._tensors.values(_ROPE_FACTORS).ravel()
            found = llama3_scaling(torch.from_numpy(factors.copy()), theta, head_dim)
            if found is None:
                raise ValueError(f"{self.path}: {_ROPE_FACTORS} is not llama3 RoPE scaling")
            return found.to_dict()
        kind = self._architecture_value("rope.scaling.type", "none")
        if kind == "none":
            return None
        scaling = {"rope_type": kind, "factor": self._architecture_value("rope.scaling.factor")}
        key = "rope.scaling.original_context_length"
        original = self._metadata.get(f"{self._prefix}.{key}")
        return (
            scaling
            if original is None
            else scaling | {"original_max_position_embeddings": original}
        )


def llama3_scaling(factors: Tensor, theta: float, head_dim: int) -> RopeParameters | None:
    """The llama3 scaling whose table llama.cpp's converter wrote; None when it is another's.

    The converter (`LlamaModel.generate_extra_tensors`) divides every frequency by a factor
    and drops the parameters. Between wavelengths that keep their frequency and those that
    are divided by the whole `factor`, the kept share is linear in the turns that a
    frequency makes in the original context, so two points of it give back its two
    constants. They are known up to a common scale, which `low_freq_factor` = 1, that of
    all released models, settles.
    """
    plain = inverse_frequencies(RopeParameters(rope_theta=theta), head_dim)
    if factors.shape != plain.shape or not bool((factors >= 1).all()):
        return None
    factor = round(float(factors.max()), 4)
    between = ((factors > 1.001) & (factors < factor * 0.999)).nonzero().ravel()
    high, context = 4.0, 8192.0
    if len(between):
        first, last = int(between[0]), int(between[-1])
        kept = (1 / factors.double() - 1 / factor) / (1 - 1 / factor)
        frequencies = plain.double() / (2 * math.pi)
        if first != last:
            slope = (kept[first] - kept[last]) / (frequencies[first] - frequencies[last])
            offset = float(slope * frequencies[first] - kept[first])
            high = round(1 + 1 / offset, 3) if offset > 0 else high
        turns = float(kept[first]) * (high - 1) + 1
        context = turns / float(frequencies[first])
    found = RopeParameters(
        rope_type="llama3",
        rope_theta=theta,
        factor=factor,
        low_freq_factor=1.0,
        high_freq_factor=high,
        original_max_position_embeddings=round(context),
    )
    rebuilt = plain / inverse_frequencies(found, head_dim)
    return found if torch.allclose(rebuilt, factors, rtol=1e-3) else None


def load_gguf_model(
    path: str | Path, *, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu"
) -> LanguageModel:
    """Read a GGUF file as a model; its weights are dequantised and cast to `dtype`."""
    checkpoint = GgufCheckpoint(path)
    check_stored(checkpoint.config, checkpoint.stored(), source=str(path))
    model = allocate_model(checkpoint.config, dtype, device)
    assert isinstance(model, LanguageModel)
    fill_weights(model, checkpoint.tensors(), source=str(path))
    return model


def hf_tensor_name(gguf_name: str) -> str | None:
    """`blk.3.attn_q.weight` to `model.layers.3.self_attn.q_proj.weight`; None if unknown."""
    parts = gguf_name.split(".")
    if len(parts) == 2 and parts[0] in _TOP_NAMES:
        return f"{_TOP_NAMES[parts[0]]}.{parts[1]}"
    if len(parts) == 4 and parts[0] == "blk" and parts[2] in _LAYER_NAMES:
        return f"model.layers.{parts[1]}.{_LAYER_NAMES[parts[2]]}.{parts[3]}"
    return None


def _shortest_float(value: float) -> float:
    """GGUF stores fp32: 9.999999747378752e-06 was written as 1e-05."""
    if not isinstance(value, float) or value == 0 or not math.isfinite(value):
        return value
    return float(f"{value:.7g}")
