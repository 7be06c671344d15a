"""GGUF files written as llama.cpp's converter writes them, read back as our model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf.quants import dequantize, quantize

from r1.models.catalogue import smollm2_path
from r1.models.gguf_checkpoint import hf_tensor_name, load_gguf_model
from r1.models.hf_checkpoint import load_model, save_model

ROW = [3, 1, 4, 1, 5, 9, 2, 6]
GGUF_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def gguf_name(name: str) -> str:
    stem, kind = name.rsplit(".", 1)
    if stem in GGUF_NAMES:
        return f"{GGUF_NAMES[stem]}.{kind}"
    _, _, layer, part = stem.split(".", 3)
    return f"blk.{layer}.{GGUF_NAMES[part]}.{kind}"


def permute(rows: np.ndarray, num_heads: int) -> np.ndarray:
    """llama.cpp's `LlamaModel.permute`, which its converter applies to q and k."""
    shape = (num_heads, 2, rows.shape[0] // num_heads // 2, *rows.shape[1:])
    return rows.reshape(shape).swapaxes(1, 2).reshape(rows.shape)


def write_gguf(path: Path, model: Any, **options: Any) -> None:
    """Write a model; options: `kind` of quantisation and `extra` tensors."""
    kind = options.get("kind", gguf.GGMLQuantizationType.F32)
    config, arch = model.config, model.config.model_type
    writer = gguf.GGUFWriter(path, arch)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope.rope_theta)
    writer.add_bos_token_id(7)
    tensors = {name: parameter.detach().numpy() for name, parameter in model.named_parameters()}
    for name, values in {**tensors, **options.get("extra", {})}.items():
        if arch == "llama" and "q_proj" in name:
            values = permute(values, config.num_attention_heads)
        elif arch == "llama" and "k_proj" in name:
            values = permute(values, config.num_key_value_heads)
        target = gguf_name(name) if name in tensors else name
        if values.ndim == 2 and kind != gguf.GGMLQuantizationType.F32:
            writer.add_tensor(target, quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(target, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize(
    ("architecture", "changes"),
    [
        ("LlamaForCausalLM", {}),
        ("LlamaForCausalLM", {"attention_bias": True, "tie_word_embeddings": True}),
        ("Qwen2ForCausalLM", {"tie_word_embeddings": True}),
    ],
)
def test_weights_come_back_exactly(tmp_path, make_model, row_logits, architecture, changes):
    model = make_model(architecture, rms_norm_eps=1e-5, **changes)
    write_gguf(tmp_path / "model.gguf", model)
    loaded = load_model(tmp_path / "model.gguf")
    names = dict(model.named_parameters())
    assert names.keys() == dict(loaded.named_parameters()).keys()
    for name, parameter in loaded.named_parameters():
        assert torch.equal(parameter, names[name]), name
    assert torch.equal(row_logits(loaded, ROW), row_logits(model, ROW))
    assert loaded.config.rms_norm_eps == 1e-5
    assert loaded.config.extra["bos_token_id"] == 7


@pytest.mark.parametrize("kind", ["Q4_1", "Q8_0", "BF16", "F16"])
def test_quantised_weights_are_dequantised_and_unpermuted(tmp_path, make_model, kind):
    quant = gguf.GGMLQuantizationType[kind]  # blocks of 32 columns
    model = make_model("LlamaForCausalLM", intermediate_size=64)
    write_gguf(tmp_path / "model.gguf", model, kind=quant)
    loaded = load_gguf_model(tmp_path / "model.gguf")
    for name, parameter in model.named_parameters():
        expected = parameter.detach().numpy()
        # Blocks lie along columns, so quantising after the row permutation changes nothing.
        if expected.ndim == 2:
            expected = dequantize(quantize(expected, quant), quant)
        got = dict(loaded.named_parameters())[name].detach().numpy()
        assert np.array_equal(got, expected), name


def test_gguf_model_can_be_saved_as_hugging_face_folder(tmp_path, make_model, row_logits):
    model = make_model("LlamaForCausalLM")
    (tmp_path / "source").mkdir()
    write_gguf(tmp_path / "source" / "model.gguf", model)
    save_model(load_model(tmp_path / "source", dtype=torch.float32), tmp_path / "saved")
    assert torch.equal(row_logits(load_model(tmp_path / "saved"), ROW), row_logits(model, ROW))


def test_tensor_names():
    assert hf_tensor_name("blk.3.attn_q.weight") == "model.layers.3.self_attn.q_proj.weight"
    assert hf_tensor_name("output_norm.weight") == "model.norm.weight"
    assert hf_tensor_name("blk.0.ffn_gate_exps.weight") is None


def test_unsupported_tensors_and_scaling_are_named(tmp_path, make_model):
    model, extra = make_model("LlamaForCausalLM"), np.ones(4, dtype=np.float32)
    write_gguf(tmp_path / "a.gguf", model, extra={"blk.0.ffn_gate_inp.weight": extra})
    with pytest.raises(ValueError, match=r"tensor blk\.0\.ffn_gate_inp\.weight is not supported"):
        load_model(tmp_path / "a.gguf")
    write_gguf(tmp_path / "b.gguf", model, extra={"rope_freqs.weight": extra})
    with pytest.raises(ValueError, match="llama3 RoPE scaling"):
        load_model(tmp_path / "b.gguf")


def test_bad_files_are_refused_in_one_line(tmp_path, make_model):
    good = tmp_path / "good.gguf"
    write_gguf(good, make_model("LlamaForCausalLM"))
    content = good.read_bytes()
    other = tmp_path / "other.gguf"
    gguf_writer = gguf.GGUFWriter(other, "mamba")
    gguf_writer.write_header_to_file()
    gguf_writer.write_kv_data_to_file()
    gguf_writer.close()
    bad = {"empty": b"", "text": b"hello, this is text", "cut": content[:900]}
    for name, damaged in bad.items():
        (tmp_path / f"{name}.gguf").write_bytes(damaged)
        with pytest.raises(ValueError, match="not a readable GGUF file") as caught:
            load_model(tmp_path / f"{name}.gguf")
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="'mamba' is not supported; choices: llama, qwen2"):
        load_model(other)
    with pytest.raises(ValueError, match="no such file"):
        load_model(tmp_path / "nothing.gguf")


@pytest.mark.slow
@torch.no_grad()
def test_smollm2_continues_text_coherently():
    path = smollm2_path()
    if not path.is_file():
        pytest.skip(f"{path} is absent; run `r1 models get smollm2`")
    model = load_gguf_model(path)
    vocabulary = gguf.GGUFReader(path).fields["tokenizer.ggml.tokens"].contents()
    ids = [vocabulary.index(token) for token in ["The", "Ġcapital", "Ġof", "ĠFrance", "Ġis"]]
    for _ in range(2):
        row = torch.tensor([ids])
        logits = model.compute_logits(model(row, torch.arange(len(ids))[None])[0, -1])
        ids.append(int(logits.argmax()))
    assert [vocabulary[token] for token in ids[-2:]] == ["ĠParis", "."]
