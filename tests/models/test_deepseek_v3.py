"""DeepSeek-V3 against transformers, its two attention forms against each other, its formats."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers.quantizers import quantizer_finegrained_fp8

from r1.models.architectures import allocate_model, build_model, build_scorer
from r1.models.deepseek_v3 import DeepseekV3ForCausalLM
from r1.models.hf_checkpoint import load_config, load_language_model, load_model, save_model
from r1.models.language_model import SequenceScorer
from r1.models.model_config import ModelConfig
from r1.models.parameter_count import (
    num_active_parameters,
    num_parameters,
    num_prediction_parameters,
)
from r1.models.presets import PRESETS

ROW = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4]
FAMILY = [{}, {"q_lora_rank": None}, {"n_group": 1, "topk_group": 1, "norm_topk_prob": False}]


def transformers_model(config: ModelConfig) -> transformers.DeepseekV3ForCausalLM:
    return transformers.DeepseekV3ForCausalLM(transformers.DeepseekV3Config(**config.to_dict()))


def logits_of_transformers(model: Any, row: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(torch.tensor([row])).logits[0]


@pytest.mark.parametrize("changes", [*FAMILY, {"attention_bias": True, "rope_interleave": False}])
@pytest.mark.parametrize("max_shard_bytes", [10**9, 9000])
def test_transformers_opens_ours(tmp_path, make_v3, row_logits, changes, max_shard_bytes):
    model = make_v3(**changes)
    save_model(model, tmp_path, max_shard_bytes=max_shard_bytes)
    expected = row_logits(model, ROW)
    theirs = transformers.DeepseekV3ForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    assert (logits_of_transformers(theirs, ROW) - expected).abs().max() < 1e-4
    loaded = load_model(tmp_path)
    assert loaded.config == dataclasses.replace(model.config, extra=loaded.config.extra)
    assert torch.equal(row_logits(loaded, ROW), expected)


@pytest.mark.parametrize("changes", FAMILY)
def test_we_open_transformers(tmp_path, make_v3, randomize, row_logits, changes):
    theirs = transformers_model(make_v3(**changes).config)
    randomize(theirs)
    # What only selects experts has to be of the scores' size to matter.
    for name, buffer in theirs.named_buffers():
        if name.endswith("e_score_correction_bias"):
            buffer.normal_(0, 0.1)
    theirs.save_pretrained(tmp_path)
    ours = load_language_model(tmp_path)
    # transformers drops the multi-token-prediction layer, though its config counts it.
    assert ours.config.num_nextn_predict_layers == 0
    assert (logits_of_transformers(theirs, ROW) - row_logits(ours, ROW)).abs().max() < 1e-4


def test_checkpoint_has_the_names_of_the_release(tmp_path, make_v3):
    save_model(make_v3(), tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    for name in (
        "model.layers.0.mlp.gate_proj.weight",
        "model.layers.1.mlp.experts.15.down_proj.weight",
        "model.layers.1.mlp.experts.0.up_proj.weight",
        "model.layers.1.mlp.gate.e_score_correction_bias",
        "model.layers.1.mlp.shared_experts.gate_proj.weight",
        "model.layers.2.self_attn.kv_a_proj_with_mqa.weight",
        "model.layers.3.eh_proj.weight",
        "model.layers.3.enorm.weight",
        "model.layers.3.hnorm.weight",
        "model.layers.3.shared_head.norm.weight",
    ):
        assert name in stored
    assert not any("gate_up" in name for name in stored)
    copies = ("model.layers.3.embed_tokens.weight", "model.layers.3.shared_head.head.weight")
    for copy, name in zip(copies, ("model.embed_tokens.weight", "lm_head.weight"), strict=True):
        assert torch.equal(stored[copy], stored[name])


def test_copies_of_shared_weights_may_be_absent_but_experts_may_not(tmp_path, make_v3, row_logits):
    model = make_v3()
    save_model(model, tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    del (
        stored["model.layers.3.embed_tokens.weight"],
        stored["model.layers.3.shared_head.head.weight"],
    )
    save_file(stored, tmp_path / "model.safetensors")
    assert torch.equal(row_logits(load_model(tmp_path), ROW), row_logits(model, ROW))
    del stored["model.layers.2.mlp.experts.7.up_proj.weight"]
    save_file(stored, tmp_path / "model.safetensors")
    with pytest.raises(
        ValueError, match=r"missing tensor model\.layers\.2\.mlp\.experts\.7\.up_proj"
    ):
        load_model(tmp_path)


def test_selection_bias_stays_fp32(tmp_path, make_v3):
    model = build_model(make_v3().config, torch.bfloat16)
    bias = model.get_parameter("model.layers.1.mlp.gate.e_score_correction_bias")
    assert bias.dtype == torch.float32 and not bias.requires_grad
    bias.fill_(1.0009765)
    save_model(model, tmp_path)
    loaded = load_model(tmp_path).get_parameter("model.layers.1.mlp.gate.e_score_correction_bias")
    assert torch.equal(loaded, bias)


@torch.no_grad()
def test_cached_and_absorbed_equals_plain_across_the_yarn_boundary(make_v3, dense_cache):
    """4,000 positions, the original context ending at 2,048, in three chunks and a token."""
    model = make_v3(
        max_position_embeddings=163_840,
        rope_scaling={**make_v3.yarn, "original_max_position_embeddings": 2048},
    )
    ids_BT = torch.randint(0, 89, (1, 4001), generator=torch.Generator().manual_seed(1))
    positions_BT = torch.arange(4001)[None]
    plain = model(ids_BT, positions_BT)
    parts = [
        model(ids_BT[:, part], positions_BT[:, part], dense_cache)
        for part in (slice(0, 1500), slice(1500, 3000), slice(3000, 4000), slice(4000, 4001))
    ]
    assert (torch.cat(parts, 1) - plain).abs().max() < 1e-5
    latents, values = dense_cache.kept[0]
    assert latents.shape == (1, 4001, 1, 16 + 8) and values is latents


def test_far_positions_are_relative(make_v3, row_logits):
    """A text that starts at 163,000 reads as one that starts at 0."""
    model = make_v3(max_position_embeddings=163_840)
    with torch.no_grad():
        far = torch.arange(163_000, 163_000 + len(ROW))[None]
        logits = model.compute_logits(model(torch.tensor([ROW]), far))[0]
    assert (logits - row_logits(model, ROW)).abs().max() < 0.02  # angles in fp32 to 0.01 rad


def test_draft_is_a_layer_on_hidden_states_and_next_embeddings(make_v3, dense_cache):
    """Equal in a cache token by token, and to its parts put together by hand."""
    model = make_v3()
    ids_BT = torch.tensor([ROW])
    positions_BT = torch.arange(len(ROW))[None]
    with torch.no_grad():
        hidden_BTD = model(ids_BT, positions_BT)
        args = (hidden_BTD[:, :-1], ids_BT[:, 1:], positions_BT[:, :-1])
        drafted = model.draft(*args)
        steps = [
            model.draft(*(value[:, i : i + 1] for value in args), dense_cache)
            for i in range(len(ROW) - 1)
        ]
        assert (torch.cat(steps, 1) - drafted).abs().max() < 1e-5
        layer = model.model.layers[3]
        joined = torch.cat(
            (layer.enorm(model.model.embed_tokens(args[1])), layer.hnorm(args[0])), -1
        )
        # At position 0 attention has one token to look at, so a layer is its value and output maps.
        first = layer.eh_proj(joined)[:, :1]
        attention = layer.self_attn
        latent = attention.kv_a_proj_with_mqa(layer.input_layernorm(first))[..., :16]
        values = attention.kv_b_proj(attention.kv_a_layernorm(latent)).unflatten(-1, (4, -1))
        first = first + attention.o_proj(values[..., 16:].flatten(2))
        first = first + layer.mlp(layer.post_attention_layernorm(first))
        assert (layer.shared_head.norm(first) - drafted[:, :1]).abs().max() < 1e-5
    with pytest.raises(ValueError, match="no multi-token-prediction layer"):
        make_v3(num_nextn_predict_layers=0).draft(*args)


def test_scorer_on_its_decoder(tmp_path, make_v3):
    scorer = build_scorer(make_v3())
    assert scorer.config.architecture == "DeepseekV3ForSequenceClassification"
    save_model(scorer, tmp_path)
    loaded = load_model(tmp_path)
    assert isinstance(loaded, SequenceScorer)
    ids_BT, positions_BT = torch.tensor([ROW]), torch.arange(len(ROW))[None]
    with torch.no_grad():
        ours = scorer.compute_scores(scorer(ids_BT, positions_BT))
        assert torch.equal(loaded.compute_scores(loaded(ids_BT, positions_BT)), ours)
    open_theirs: Any = transformers.DeepseekV3ForSequenceClassification.from_pretrained
    assert abs(logits_of_transformers(open_theirs(tmp_path), ROW)[0] - ours[0, -1]) < 1e-4


def test_published_totals_without_memory():
    started = time.monotonic()
    config = PRESETS["DeepSeek-R1"].model_config
    model = allocate_model(config, torch.bfloat16, "meta")
    assert isinstance(model, DeepseekV3ForCausalLM)
    total = sum(parameter.numel() for parameter in model.parameters())
    assert time.monotonic() - started < 60
    # The model card: 671B in all, 37B for a token, 685B with the multi-token predictor, which
    # holds a copy of the embedding and of the head.
    assert num_parameters(config) == 671_026_419_200
    assert num_active_parameters(config) == 36_625_618_432
    assert total == num_parameters(config) + num_prediction_parameters(config)
    assert round((total + 2 * 129_280 * 7168) / 1e9) == 684
    entry = config.kv_entry_shape
    assert entry == (1, 1, 576)


@pytest.mark.parametrize("changes", [*FAMILY, {"attention_bias": True, "n_shared_experts": 0}])
def test_parameter_count_is_that_of_the_model(make_v3, changes):
    model = make_v3(**changes)
    count = sum(parameter.numel() for parameter in model.parameters())
    config = model.config
    assert count == num_parameters(config) + num_prediction_parameters(config)


def test_released_config_is_read_and_written_back():
    raw = {
        **PRESETS["DeepSeek-R1"].config,
        "auto_map": {"AutoConfig": "configuration_deepseek.DeepseekV3Config"},
        "aux_loss_alpha": 0.001,
        "seq_aux": True,
        "ep_size": 1,
        "pretraining_tp": 1,
    }
    config = ModelConfig.from_dict(raw)
    assert (config.rope_dim, config.head_dim) == (64, 192)
    assert config.rope.rotation_scale == 1.0
    assert config.rope.attention_scale == pytest.approx((0.1 * 3.6888794541139363 + 1) ** 2)
    written = config.to_dict()
    for key, value in raw.items():
        if key != "rope_scaling":
            assert written[key] == value, key
    assert written["rope_scaling"]["rope_type"] == "yarn"
    assert ModelConfig.from_dict(written) == config


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"n_group": 3}, "16 experts do not make 3 groups"),
        ({"topk_group": 5}, "5 are chosen"),
        ({"num_experts_per_tok": 9}, "num_experts_per_tok (9)"),
        ({"scoring_func": "softmax"}, "scoring_func 'softmax'"),
        ({"moe_layer_freq": 2}, "moe_layer_freq"),
        ({"kv_lora_rank": None}, "missing key kv_lora_rank"),
        ({"num_key_value_heads": 2}, "num_key_value_heads"),
        ({"v_head_dim": 32}, "v_head_dim (32)"),
    ],
)
def test_what_is_not_supported_is_named(make_v3, changes, words):
    with pytest.raises(ValueError) as caught:
        ModelConfig.from_dict({**make_v3.tiny, **changes})
    assert words in str(caught.value)


# ---------------------------------------------------------------- FP8


@pytest.fixture
def fp8_folder(tmp_path: Path, make_v3) -> Path:
    model = make_v3(**make_v3.wide)
    save_model(model, tmp_path / "fp8", is_fp8=True, max_shard_bytes=200_000)
    return tmp_path / "fp8"


def test_fp8_round_trip(tmp_path, fp8_folder, make_v3):
    config = json.loads((fp8_folder / "config.json").read_text())
    assert config["quantization_config"]["weight_block_size"] == [128, 128]
    files = sorted(fp8_folder.glob("*.safetensors"))
    stored = {name: tensor for file in files for name, tensor in load_file(file).items()}
    weight = stored["model.layers.1.mlp.experts.3.gate_proj.weight"]
    assert weight.dtype == torch.float8_e4m3fn and weight.shape == (136, 160)
    scales = stored["model.layers.1.mlp.experts.3.gate_proj.weight_scale_inv"]
    assert scales.dtype == torch.float32 and scales.shape == (2, 2)
    for name in (
        "lm_head.weight",
        "model.layers.1.mlp.gate.weight",
        "model.layers.3.eh_proj.weight",
    ):
        assert stored[name].dtype == torch.float32
    loaded = load_language_model(fp8_folder)
    assert "quantization_config" not in loaded.config.extra
    save_model(loaded, tmp_path / "again", is_fp8=True)
    again = load_file(tmp_path / "again" / "model.safetensors")
    assert again.keys() == stored.keys()
    for name, tensor in stored.items():
        if name.endswith("_scale_inv"):
            torch.testing.assert_close(again[name], tensor, rtol=1e-6, atol=0)
        else:
            assert torch.equal(again[name].float(), tensor.float()), name
    original, kept = (
        dict(make_v3(**make_v3.wide).named_parameters()),
        dict(loaded.named_parameters()),
    )
    for name, parameter in original.items():
        # e4m3 has three bits behind the point: values are off by a sixteenth at most.
        bound = parameter.abs() / 16 + parameter.abs().max() / 448 / 16
        assert ((kept[name] - parameter).abs() <= bound + 1e-7).all(), name


def test_transformers_dequantises_ours_to_the_same(tmp_path, make_v3, row_logits, monkeypatch):
    # It asks for accelerate, which this path does not use, and for whole blocks.
    monkeypatch.setattr(quantizer_finegrained_fp8, "is_accelerate_available", lambda: True)
    sizes = {"hidden_size": 128, "intermediate_size": 128, "moe_intermediate_size": 128}
    sizes |= {"q_lora_rank": 128, "kv_lora_rank": 128, "qk_rope_head_dim": 128}
    sizes |= {"qk_nope_head_dim": 64, "v_head_dim": 64}
    save_model(make_v3(**sizes), tmp_path, is_fp8=True)
    theirs = transformers.DeepseekV3ForCausalLM.from_pretrained(
        tmp_path,
        dtype=torch.float32,
        quantization_config=transformers.FineGrainedFP8Config(dequantize=True),
    )
    ours = row_logits(load_model(tmp_path, dtype=torch.float32), ROW)
    assert (logits_of_transformers(theirs, ROW) - ours).abs().max() < 1e-4


def test_fp8_without_its_scales_is_named(fp8_folder):
    file = sorted(fp8_folder.glob("*.safetensors"))[1]
    stored = load_file(file)
    name = next(name for name in stored if name.endswith("_scale_inv"))
    scales = stored.pop(name)
    save_file(stored, file)
    with pytest.raises(ValueError, match=f"missing tensor {name}"):
        load_model(fp8_folder)
    save_file({**stored, name: scales[:, :1].contiguous()}, file)
    with pytest.raises(ValueError, match=r"scales of shape"):
        load_model(fp8_folder)
    assert load_config(fp8_folder).extra["quantization_config"]["quant_method"] == "fp8"
