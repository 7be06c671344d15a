"""DeepSeek-V3 as llama.cpp's converter writes it: the architecture `deepseek2` of GGUF.

The converter (convert_hf_to_gguf.py, `DeepseekV2Model`) stacks the experts, takes the matrix
that makes keys and values apart, the first part transposed, and leaves multi-token prediction
out. All of that is undone here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from r1.models.gguf_tensors import GgufTensors

_SIGMOID = 2  # LLAMA_EXPERT_GATING_FUNC_TYPE_SIGMOID; DeepSeek-V2 has softmax
_LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_q_a": "self_attn.q_a_proj",
    "attn_q_a_norm": "self_attn.q_a_layernorm",
    "attn_q_b": "self_attn.q_b_proj",
    "attn_kv_a_mqa": "self_attn.kv_a_proj_with_mqa",
    "attn_kv_a_norm": "self_attn.kv_a_layernorm",
    "attn_kv_b": "self_attn.kv_b_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "ffn_gate_shexp": "mlp.shared_experts.gate_proj",
    "ffn_up_shexp": "mlp.shared_experts.up_proj",
    "ffn_down_shexp": "mlp.shared_experts.down_proj",
    "ffn_gate_inp": "mlp.gate",
}
_STACKS = {"ffn_gate_exps": "gate_proj", "ffn_up_exps": "up_proj", "ffn_down_exps": "down_proj"}
_TOP_NAMES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}


@dataclass(frozen=True, slots=True)
class GgufWeight:
    """A weight under its Hugging Face name, and how to read it as fp32."""

    name: str
    shape: tuple[int, ...]
    file: Path
    load: Callable[[], Tensor]


def deepseek_config(path: Path, tensors: GgufTensors, value: Callable[..., Any]) -> dict[str, Any]:
    """What `deepseek2` metadata says of the architecture, under `config.json`'s names.

    `value` gives a field of the architecture by name, or its default, or raises ValueError.
    """

    def number(key: str, *default: float) -> Any:
        found = value(key, *default)
        if not isinstance(found, int | float) or not math.isfinite(found):
            raise ValueError(f"{path}: deepseek2.{key} is {found!r}, not a number")
        return found

    if number("expert_gating_func", 0) != _SIGMOID:
        raise ValueError(f"{path}: deepseek2 without sigmoid scores (DeepSeek-V2) is not supported")
    rope_dim, heads = number("rope.dimension_count"), number("attention.head_count")
    # Files from before the absorbed form have the sizes of whole heads in the plain fields.
    head_dim = number("attention.key_length_mla", number("attention.key_length", 0))
    value_dim = number("attention.value_length_mla", number("attention.value_length", 0))
    num_experts = number("expert_count")
    # Files from before 2025-09 do not name the groups: V3's own, or one.
    groups = (8, 4) if num_experts == 256 else (1, 1)
    return {
        "architectures": ["DeepseekV3ForCausalLM"],
        "num_key_value_heads": heads,
        "q_lora_rank": number("attention.q_lora_rank", 0) or None,
        "kv_lora_rank": number("attention.kv_lora_rank"),
        "qk_nope_head_dim": head_dim - rope_dim,
        "qk_rope_head_dim": rope_dim,
        "v_head_dim": value_dim,
        "rope_interleave": True,
        "first_k_dense_replace": number("leading_dense_block_count"),
        "moe_intermediate_size": number("expert_feed_forward_length"),
        "n_routed_experts": num_experts,
        "n_shared_experts": number("expert_shared_count"),
        "num_experts_per_tok": number("expert_used_count"),
        "n_group": number("expert_group_count", groups[0]),
        "topk_group": number("expert_group_used_count", groups[1]),
        "norm_topk_prob": number("expert_weights_norm", False),
        "routed_scaling_factor": round(number("expert_weights_scale", 1.0), 6),
        "num_nextn_predict_layers": 0,
        "attention_bias": "blk.0.attn_kv_a_mqa.bias" in tensors,
        "rope_scaling": _yarn(value, number),
    }


def _yarn(value: Callable[..., Any], number: Callable[..., Any]) -> dict[str, Any] | None:
    if value("rope.scaling.type", "none") == "none":
        return None
    scaling = {
        "rope_type": value("rope.scaling.type"),
        "factor": number("rope.scaling.factor"),
        "original_max_position_embeddings": number("rope.scaling.original_context_length"),
        "beta_fast": number("rope.scaling.yarn_beta_fast", 32.0),
        "beta_slow": number("rope.scaling.yarn_beta_slow", 1.0),
    }
    # A tenth of `mscale_all_dim`; the converter drops `mscale`, equal to it in all releases.
    tenth = number("rope.scaling.yarn_log_multiplier", 0.0)
    mscale = round(tenth * 10, 5)
    return {**scaling, "mscale": mscale, "mscale_all_dim": mscale} if mscale else scaling


def deepseek_weights(tensors: GgufTensors) -> Iterator[GgufWeight]:
    """Every weight as the release has it; ValueError for a tensor that is not of DeepSeek-V3."""
    for name, tensor in tensors.by_name.items():
        stem, _, kind = name.rpartition(".")
        layer, _, part = stem.removeprefix("blk.").partition(".")
        prefix = f"model.layers.{layer}"
        if part == "attn_v_b":
            continue
        if part == "attn_k_b":
            yield _key_value_weight(tensors, stem.removesuffix("attn_k_b"), prefix)
        elif part in _STACKS:
            for index in range(tensor.shape[0]):
                target = f"{prefix}.mlp.experts.{index}.{_STACKS[part]}.{kind}"
                load = _loader(tensors, name, index)
                yield GgufWeight(target, tensor.shape[1:], tensors.file_of(name), load)
        else:
            target = _plain_name(stem, part, kind, prefix)
            if target is None:
                raise ValueError(f"{tensors.file_of(name)}: tensor {name} is not supported")
            load = _loader(tensors, name, None)
            yield GgufWeight(target, tensor.shape, tensors.file_of(name), load)


def _plain_name(stem: str, part: str, kind: str, prefix: str) -> str | None:
    if stem in _TOP_NAMES:
        return f"{_TOP_NAMES[stem]}.{kind}"
    if part == "exp_probs_b":
        return f"{prefix}.mlp.gate.e_score_correction_bias"
    return f"{prefix}.{_LAYER_NAMES[part]}.{kind}" if part in _LAYER_NAMES else None


def _loader(tensors: GgufTensors, name: str, index: int | None) -> Callable[[], Tensor]:
    return lambda: as_tensor(tensors.values(name, index))


def as_tensor(values: np.ndarray) -> Tensor:
    """Memory-mapped values are copied: torch wants to be able to write."""
    return torch.from_numpy(values if values.flags.writeable else values.copy())


def _key_value_weight(tensors: GgufTensors, stem: str, prefix: str) -> GgufWeight:
    """`kv_b_proj` [H (K + V), C] from [H, C, K] and [H, V, C]."""
    names = f"{stem}attn_k_b.weight", f"{stem}attn_v_b.weight"
    file = tensors.file_of(names[0])
    if names[1] not in tensors:
        raise ValueError(f"{file}: missing tensor {names[1]}")
    keys, values = (tensors.by_name[name].shape for name in names)
    if len(keys) != 3 or len(values) != 3 or (keys[0], keys[1]) != (values[0], values[2]):
        raise ValueError(f"{file}: {names[0]} {list(keys)} does not fit {list(values)}")

    def load() -> Tensor:
        key, value = (as_tensor(tensors.values(name)) for name in names)
        return torch.cat((key.transpose(1, 2), value), 1).flatten(0, 1)

    shape = (keys[0] * (keys[2] + values[1]), keys[1])
    return GgufWeight(f"{prefix}.self_attn.kv_b_proj.weight", shape, file, load)
