"""Llama and Qwen2 models in llama.cpp's GGUF files, dequantised into the same model."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGUFReader, ReaderTensor
from gguf.quants import dequantize
from torch import Tensor

from r1.models.architectures import allocate_model
from r1.models.llama import LlamaForCausalLM
from r1.models.model_config import ModelConfig, unknown_name_message
from r1.models.weights import fill_weights


@dataclass(frozen=True, slots=True)
class _Family:
    """What llama.cpp's converter does to one architecture."""

    architecture: str
    is_rope_permuted: bool


_FAMILIES = {
    "llama": _Family("LlamaForCausalLM", is_rope_permuted=True),
    "qwen2": _Family("Qwen2ForCausalLM", is_rope_permuted=False),
}

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

_TOP_NAMES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}


class _PlainArrayReader(GGUFReader):
    """GGUFReader over a plain view of its memory map.

    It slices its data once for every token and merge of the vocabulary, and
    numpy's memmap subclass makes each slice several times slower.
    """

    @property
    def data(self) -> np.ndarray:  # type: ignore[override]
        return self._plain_data

    @data.setter
    def data(self, memory_map: np.memmap) -> None:
        self._plain_data = memory_map.view(np.ndarray)


class GgufCheckpoint:
    """An open GGUF file: its config, and its tensors under Hugging Face names."""

    def __init__(self, path: str | Path) -> None:
        """Open and check `path`; ValueError when it is no GGUF file or of another family."""
        self.path = Path(path)
        if not self.path.is_file():
            raise ValueError(f"{self.path}: no such file")
        try:
            self._reader = _PlainArrayReader(self.path)
        except (ValueError, IndexError, KeyError, OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{self.path}: not a readable GGUF file ({error})") from error
        name = self._metadata("general.architecture")
        if name not in _FAMILIES:
            message = unknown_name_message("GGUF architecture", name, _FAMILIES)
            raise ValueError(f"{self.path}: {message}")
        self._prefix = name
        self._family = _FAMILIES[name]
        self.config = ModelConfig.from_dict(self._config_dict(), source=str(self.path))

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Every weight as fp32, named and laid out as in a Hugging Face checkpoint."""
        for stored in self._reader.tensors:
            name = hf_tensor_name(stored.name)
            if name is None:
                raise ValueError(f"{self.path}: tensor {stored.name} is not supported")
            yield name, self._unpermuted(stored.name, _dequantized(stored, self.path))

    def _unpermuted(self, name: str, tensor: Tensor) -> Tensor:
        """Undo the converter's row order of q and k (interleaved pairs to split halves)."""
        part = name.split(".")[-2]
        if not self._family.is_rope_permuted or part not in ("attn_q", "attn_k"):
            return tensor
        heads = self.config.num_attention_heads
        if part == "attn_k":
            heads = self.config.num_key_value_heads
        pairs = tensor.view(heads, -1, 2, *tensor.shape[1:])
        return pairs.transpose(1, 2).reshape(tensor.shape)

    def _metadata(self, key: str, default: Any = None) -> Any:
        field = self._reader.get_field(key)
        return default if field is None else field.contents()

    def _architecture_value(self, key: str, default: Any = None) -> Any:
        value = self._metadata(f"{self._prefix}.{key}", default)
        if value is None:
            raise ValueError(f"{self.path}: missing metadata {self._prefix}.{key}")
        return value

    def _config_dict(self) -> dict[str, Any]:
        """The file's metadata as the `config.json` it was converted from."""
        value = self._architecture_value
        names = {item.name for item in self._reader.tensors}
        embedding = next((t for t in self._reader.tensors if t.name == "token_embd.weight"), None)
        if embedding is None:
            raise ValueError(f"{self.path}: missing tensor token_embd.weight")
        heads = value("attention.head_count")
        head_dim = value("attention.key_length", value("embedding_length") // heads)
        if value("rope.dimension_count", head_dim) != head_dim:
            raise ValueError(f"{self.path}: RoPE on a part of each head is not supported")
        raw = {
            "architectures": [self._family.architecture],
            "vocab_size": int(embedding.shape[1]),
            "hidden_size": value("embedding_length"),
            "intermediate_size": value("feed_forward_length"),
            "num_hidden_layers": value("block_count"),
            "num_attention_heads": heads,
            "num_key_value_heads": value("attention.head_count_kv", heads),
            "head_dim": head_dim,
            "max_position_embeddings": value("context_length"),
            "rms_norm_eps": _shortest_float(value("attention.layer_norm_rms_epsilon")),
            "attention_bias": "blk.0.attn_output.bias" in names,
            "mlp_bias": "blk.0.ffn_down.bias" in names,
            "tie_word_embeddings": "output.weight" not in names,
            "rope_theta": _shortest_float(value("rope.freq_base", 10_000.0)),
            "rope_scaling": self._rope_scaling(names),
        }
        for token in ("bos", "eos", "padding"):
            token_id = self._metadata(f"tokenizer.ggml.{token}_token_id")
            if token_id is not None:
                raw[f"{token.removesuffix('ding')}_token_id"] = token_id
        return raw

    def _rope_scaling(self, tensor_names: set[str]) -> dict[str, Any] | None:
        if "rope_freqs.weight" in tensor_names:
            # The converter folds llama3 scaling into a table and drops its parameters.
            raise ValueError(
                f"{self.path}: llama3 RoPE scaling cannot be read back from a GGUF file; "
                "use the safetensors checkpoint"
            )
        kind = self._architecture_value("rope.scaling.type", "none")
        if kind == "none":
            return None
        return {"rope_type": kind, "factor": self._architecture_value("rope.scaling.factor")}


def load_gguf_model(
    path: str | Path, *, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu"
) -> LlamaForCausalLM:
    """Read a GGUF file as a model; its weights are dequantised and cast to `dtype`."""
    checkpoint = GgufCheckpoint(path)
    model = allocate_model(checkpoint.config, dtype, device)
    assert isinstance(model, LlamaForCausalLM)
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


def _dequantized(stored: ReaderTensor, path: Path) -> Tensor:
    shape = [int(size) for size in reversed(stored.shape)]
    try:
        values = dequantize(stored.data, stored.tensor_type)
    except NotImplementedError as error:
        kind = stored.tensor_type.name
        raise ValueError(f"{path}: quantisation {kind} of {stored.name} is unknown") from error
    return torch.from_numpy(values.copy() if not values.flags.writeable else values).view(shape)


def _shortest_float(value: float) -> float:
    """GGUF stores fp32: 9.999999747378752e-06 was written as 1e-05."""
    if value == 0 or not math.isfinite(value):
        return value
    return float(f"{value:.7g}")
