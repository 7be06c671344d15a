"""DeepSeek-V3 in GGUF, written as llama.cpp's converter does, read back as our model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch

from r1.models.gguf_deepseek import _LAYER_NAMES
from r1.models.hf_checkpoint import load_model
from r1.models.model_config import ModelConfig

ROW = [3, 1, 4, 1, 5, 9, 2, 6]
TOP_NAMES = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
GGUF_NAMES = {name: part for part, name in _LAYER_NAMES.items()}


def write_fields(writer: gguf.GGUFWriter, config: ModelConfig, **changes: Any) -> None:
    """convert_hf_to_gguf.py: TextModel.set_gguf_parameters, DeepseekV2Model's after it."""
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope.rope_theta)
    writer.add_rope_dimension_count(config.rope_dim)
    writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    writer.add_rope_scaling_factor(config.rope.factor)
    writer.add_rope_scaling_orig_ctx_len(config.rope.original_max_position_embeddings)
    writer.add_rope_scaling_yarn_beta_fast(config.rope.beta_fast)
    writer.add_rope_scaling_yarn_beta_slow(config.rope.beta_slow)
    writer.add_rope_scaling_yarn_log_mul(0.1 * (config.rope.mscale_all_dim or 0))
    writer.add_leading_dense_block_count(config.first_k_dense_replace or 0)
    if config.q_lora_rank:
        writer.add_q_lora_rank(config.q_lora_rank)
    assert config.kv_lora_rank and config.v_head_dim
    writer.add_kv_lora_rank(config.kv_lora_rank)
    writer.add_key_length(changes.get("key_length", config.kv_lora_rank + config.rope_dim))
    writer.add_value_length(changes.get("value_length", config.kv_lora_rank))
    if "key_length" not in changes:
        writer.add_key_length_mla(config.head_dim)
        writer.add_value_length_mla(config.v_head_dim)
    writer.add_expert_feed_forward_length(config.moe_intermediate_size or 0)
    writer.add_expert_count(config.n_routed_experts or 0)
    writer.add_expert_shared_count(config.n_shared_experts or 0)
    writer.add_expert_used_count(config.num_experts_per_tok or 0)
    writer.add_expert_group_count(config.n_group or 0)
    writer.add_expert_group_used_count(config.topk_group or 0)
    writer.add_expert_weights_scale(config.routed_scaling_factor or 0)
    writer.add_expert_weights_norm(True)
    writer.add_expert_gating_func(changes.get("gating", gguf.ExpertGatingFuncType.SIGMOID))


def converted(model: Any, is_absorbed: bool) -> dict[str, np.ndarray]:
    """DeepseekV2Model.modify_tensors: experts stacked, kv_b_proj taken apart, no prediction."""
    config, tensors = model.config, {}
    for name, parameter in model.named_parameters():
        values, (stem, _, kind) = parameter.detach(), name.rpartition(".")
        if stem in TOP_NAMES:
            tensors[f"{TOP_NAMES[stem]}.{kind}"] = values
            continue
        _, _, layer, part = name.split(".", 3)
        prefix = f"blk.{layer}"
        if int(layer) >= config.num_hidden_layers:
            continue
        if part == "mlp.experts.gate_up_proj":
            gate, up = values.chunk(2, 1)
            tensors[f"{prefix}.ffn_gate_exps.weight"] = gate
            tensors[f"{prefix}.ffn_up_exps.weight"] = up
        elif part == "mlp.experts.down_proj":
            tensors[f"{prefix}.ffn_down_exps.weight"] = values
        elif part == "mlp.gate.e_score_correction_bias":
            tensors[f"{prefix}.exp_probs_b.bias"] = values
        elif part == "self_attn.kv_b_proj.weight" and is_absorbed:
            heads = values.unflatten(0, (config.num_attention_heads, -1))
            key, value = heads.split([config.qk_nope_head_dim, config.v_head_dim], 1)
            tensors[f"{prefix}.attn_k_b.weight"] = key.transpose(1, 2)
            tensors[f"{prefix}.attn_v_b.weight"] = value
        else:
            part = part.removesuffix(f".{kind}")
            tensors[f"{prefix}.{GGUF_NAMES[part]}.{kind}"] = values
    return {name: values.contiguous().numpy() for name, values in tensors.items()}


def write(path: Path, model: Any, *, parts: int = 0, left_out: str = "", **changes: Any) -> None:
    writer = gguf.GGUFWriter(path, "deepseek2", split_max_tensors=parts)
    write_fields(writer, model.config, **changes)
    for name, values in converted(model, "key_length" not in changes).items():
        if name != left_out:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def check(path: Path, model: Any, row_logits: Any) -> None:
    loaded = load_model(path)
    expected = dict(model.named_parameters())
    for name, parameter in loaded.named_parameters():
        assert torch.equal(parameter, expected[name]), name
    assert torch.equal(row_logits(loaded, ROW), row_logits(model, ROW))
    assert loaded.config.rope == model.config.rope


@pytest.mark.parametrize("changes", [{}, {"q_lora_rank": None}, {"attention_bias": True}])
def test_weights_come_back_exactly(tmp_path, make_v3, row_logits, changes):
    model = make_v3(**changes)
    write(tmp_path / "model.gguf", model)
    check(tmp_path / "model.gguf", model, row_logits)


def test_in_parts_from_their_folder(tmp_path, make_v3, row_logits):
    write(tmp_path / "model.gguf", make_v3(), parts=7)
    assert len(list(tmp_path.iterdir())) > 5
    check(tmp_path, make_v3(), row_logits)


def test_files_from_before_the_absorbed_form(tmp_path, make_v3, row_logits):
    model = make_v3()
    sizes = {"key_length": model.config.head_dim, "value_length": model.config.v_head_dim}
    write(tmp_path / "model.gguf", model, **sizes)
    check(tmp_path / "model.gguf", model, row_logits)


def test_what_is_refused(tmp_path, make_v3, refusal):
    path = tmp_path / "model.gguf"
    write(path, make_v3(), gating=gguf.ExpertGatingFuncType.SOFTMAX)
    assert "without sigmoid scores (DeepSeek-V2) is not supported" in refusal(load_model, path)
    write(path, make_v3(), left_out="blk.1.attn_v_b.weight")
    assert "missing tensor blk.1.attn_v_b.weight" in refusal(load_model, path)
    write(path, make_v3(), left_out="blk.1.attn_k_b.weight")
    assert "missing tensor model.layers.1.self_attn.kv_b_proj" in refusal(load_model, path)
    write(path, make_v3(), left_out="blk.1.ffn_up_exps.weight")
    assert "missing tensor model.layers.1.mlp.experts.0.up_proj" in refusal(load_model, path)
