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
from r1.models.gguf_checkpoint import (
    GgufCheckpoint,
    hf_tensor_name,
    llama3_scaling,
    load_gguf_model,
)
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


LLAMA_3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def converter_factors(theta: float, head_dim: int, scaling: dict[str, Any]) -> np.ndarray:
    """llama.cpp's `LlamaModel.generate_extra_tensors`: what each frequency is divided by."""
    context, factor = scaling["original_max_position_embeddings"], scaling["factor"]
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    factors = []
    for frequency in 1.0 / theta ** (np.arange(0, head_dim, 2) / head_dim):
        wavelength = 2 * np.pi / frequency
        if wavelength < context / high:
            factors.append(1.0)
        elif wavelength > context / low:
            factors.append(factor)
        else:
            smooth = (context / wavelength - low) / (high - low)
            factors.append(1 / ((1 - smooth) / factor + smooth))
    return np.array(factors, dtype=np.float32)


@pytest.mark.parametrize(
    ("theta", "head_dim", "changes"),
    [
        (500_000.0, 128, {}),  # Llama 3.1 and 3.3
        (500_000.0, 64, {"factor": 32.0}),  # Llama 3.2 1B
        (500_000.0, 8, {}),
        (10_000.0, 128, {"high_freq_factor": 2.5, "original_max_position_embeddings": 4096}),
        (500_000.0, 128, {"factor": 1.0}),
    ],
)
def test_llama3_scaling_is_read_back_from_its_table(theta, head_dim, changes):
    scaling = {**LLAMA_3, **changes}
    factors = torch.from_numpy(converter_factors(theta, head_dim, scaling))
    found = llama3_scaling(factors, theta, head_dim)
    assert found is not None
    rebuilt = converter_factors(theta, head_dim, found.to_dict())
    assert np.allclose(rebuilt, factors, rtol=1e-4)
    if head_dim > 8 and scaling["factor"] > 1:
        assert found.to_dict() == {"rope_theta": theta, **scaling}


def test_llama_3_1_comes_back_with_its_scaling(tmp_path, make_model, row_logits):
    changes = {"hidden_size": 128, "rope_theta": 500_000.0, "rope_scaling": LLAMA_3}
    model = make_model("LlamaForCausalLM", **changes)
    factors = converter_factors(500_000.0, 32, LLAMA_3)
    write_gguf(tmp_path / "model.gguf", model, extra={"rope_freqs.weight": factors})
    loaded = load_model(tmp_path / "model.gguf")
    assert loaded.config.rope == model.config.rope
    assert torch.equal(row_logits(loaded, ROW), row_logits(model, ROW))


# Every type that `gguf.quants` quantises in numpy; K and I types it only dequantises.
@pytest.mark.parametrize("kind", ["Q4_0", "Q5_0", "Q5_1", "TQ1_0", "TQ2_0"])
def test_other_types_are_dequantised(tmp_path, make_model, kind):
    quant = gguf.GGMLQuantizationType[kind]
    model = make_model("Qwen2ForCausalLM", hidden_size=256, intermediate_size=256, head_dim=64)
    write_gguf(tmp_path / "model.gguf", model, kind=quant)
    loaded = dict(load_gguf_model(tmp_path / "model.gguf").named_parameters())
    for name, parameter in model.named_parameters():
        expected = parameter.detach().numpy()
        if expected.ndim == 2:
            expected = dequantize(quantize(expected, quant), quant)
        assert np.array_equal(loaded[name].detach().numpy(), expected), name


@pytest.mark.parametrize("kind", ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS", "IQ3_S"])
def test_types_of_large_blocks_are_dequantised(tmp_path, kind):
    quant = gguf.GGMLQuantizationType[kind]
    block, size = gguf.GGML_QUANT_SIZES[quant]
    rows = np.random.default_rng(0).integers(0, 60, (3, 2 * size), dtype=np.uint8)
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "llama")
    writer.add_tensor("token_embd.weight", rows, raw_dtype=quant)
    for name, value in CONFIG_FIELDS.items():
        writer.add_uint32(f"llama.{name}", value)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    ((name, tensor),) = GgufCheckpoint(tmp_path / "model.gguf").tensors()
    assert (name, tensor.shape) == ("model.embed_tokens.weight", (3, 2 * block))
    assert np.array_equal(tensor.numpy(), dequantize(rows, quant), equal_nan=True)


CONFIG_FIELDS = {
    "block_count": 1,
    "context_length": 64,
    "embedding_length": 512,
    "feed_forward_length": 512,
    "attention.head_count": 4,
}


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
    other = np.array([1, 5, 2, 8], dtype=np.float32)
    write_gguf(tmp_path / "b.gguf", model, extra={"rope_freqs.weight": other})
    with pytest.raises(ValueError, match=r"rope_freqs\.weight is not llama3 RoPE scaling"):
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
