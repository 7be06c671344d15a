"""Projections kept in FP8 against the dequantised ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from r1.models.architectures import build_model
from r1.models.deepseek_v3 import DeepseekV3ForCausalLM
from r1.models.fp8 import dequantize_blocks, quantize_blocks
from r1.models.fp8_linear import (
    Fp8Experts,
    Fp8Linear,
    fp8_matmul,
    has_fp8_matmul,
    quantize_rows,
)
from r1.models.hf_checkpoint import load_language_model, save_model
from r1.models.model_config import ModelConfig
from tests.models.conftest import TINY_V3

# Whole blocks everywhere, save that kv_a_proj_with_mqa has 128 + 64 rows.
IN_BLOCKS = {
    **TINY_V3,
    "hidden_size": 128,
    "intermediate_size": 256,
    "moe_intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "n_routed_experts": 8,
    "q_lora_rank": 128,
    "kv_lora_rank": 128,
    "qk_nope_head_dim": 64,
    "qk_rope_head_dim": 64,
    "v_head_dim": 64,
}
KEPT = {"q_a_proj", "q_b_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(build_model(ModelConfig.from_dict(IN_BLOCKS), seed=3), tmp_path / "a", is_fp8=True)
    return tmp_path / "a"


def open_both(folder: Path) -> tuple[DeepseekV3ForCausalLM, DeepseekV3ForCausalLM]:
    """In FP8, and dequantised."""
    kept, plain = load_language_model(folder, is_fp8=True), load_language_model(folder)
    assert isinstance(kept, DeepseekV3ForCausalLM) and isinstance(plain, DeepseekV3ForCausalLM)
    return kept, plain


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def test_rows_are_quantised_by_128_values() -> None:
    hidden = torch.randn(5, 384)
    hidden[1, 130] = 3e4
    hidden[2, :128] = 0
    quantized, scales = quantize_rows(hidden)
    assert (quantized.dtype, scales.shape) == (torch.float8_e4m3fn, (5, 3))
    assert quantized.float().isfinite().all()
    assert scales[2, 0] == 1 and scales[1, 1] == pytest.approx(3e4 / 448)
    back = quantized.float() * scales.repeat_interleave(128, 1)
    error = ((back - hidden).abs() / scales.repeat_interleave(128, 1)).amax()
    assert error <= 16  # half a step of the largest numbers, 256 to 448
    # The outlier costs its own block alone.
    assert relative_error(back[1, 256:], hidden[1, 256:]) < 0.04


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_product_is_that_of_the_dequantised_values(dtype: torch.dtype) -> None:
    hidden, matrix = torch.randn(7, 256).to(dtype), torch.randn(384, 256)
    weight, scale_inv = quantize_blocks(matrix)
    found = fp8_matmul(hidden, weight, scale_inv)
    assert (found.dtype, found.shape) == (dtype, (7, 384))
    quantized, scales = quantize_rows(hidden)
    by_hand = torch.zeros(7, 384)
    for row in range(3):
        for column in range(2):
            left = quantized[:, column * 128 : column * 128 + 128].float()
            place = (slice(row * 128, row * 128 + 128), slice(column * 128, column * 128 + 128))
            product = left @ weight[place].float().T
            by_hand[:, place[0]] += product * scales[:, column, None] * scale_inv[row, column]
    bound = 1e-3 if dtype == torch.float32 else 0.3
    assert (found.float() - by_hand).abs().max() < bound
    dequantized = dequantize_blocks(weight, scale_inv, torch.float32)
    assert relative_error(found.float(), F.linear(hidden.float(), dequantized)) < 0.04
    assert relative_error(found.float(), F.linear(hidden.float(), matrix)) < 0.05


def test_a_checkpoint_stays_in_fp8(folder: Path, tmp_path: Path) -> None:
    stored = load_file(folder / "model.safetensors")
    kept, plain = open_both(folder)
    modules = dict(kept.named_modules())
    linears = [name for name, module in modules.items() if isinstance(module, Fp8Linear)]
    assert {name.rpartition(".")[2] for name in linears} == KEPT
    assert sum(isinstance(module, Fp8Experts) for module in modules.values()) == 2
    named = dict(kept.checkpoint_tensors())
    for name, tensor in named.items():
        if name.endswith("_scale_inv") or tensor.dtype == torch.float8_e4m3fn:
            assert torch.equal(tensor.float(), stored[name].float()), name
    # kv_a_proj_with_mqa has half a block, kv_b_proj is read by the absorbed attention.
    missing = {name.split(".")[-2] for name in stored.keys() - named.keys()}
    assert missing == {"kv_a_proj_with_mqa", "kv_b_proj"}

    save_model(kept, tmp_path / "b")
    again = load_file(tmp_path / "b" / "model.safetensors")
    assert again.keys() == stored.keys()
    same = [name for name in stored if torch.equal(stored[name].float(), again[name].float())]
    assert len(same) >= len(stored) - 12  # the six that were dequantised are rounded again

    ids, positions = torch.arange(40)[None], torch.arange(40)[None]
    with torch.inference_mode():
        logits = [m.compute_logits(m(ids, positions)) for m in (kept, plain)]
        drafts = [m.draft(m(ids, positions), ids, positions) for m in (kept, plain)]
    assert relative_error(*logits) < 0.1
    assert relative_error(*drafts) < 0.1
    assert not torch.equal(*logits)


def test_experts_are_those_of_the_dequantised_stacks(folder: Path) -> None:
    kept, plain = open_both(folder)
    experts, reference = (next(m.moe_layers()).experts for m in (kept, plain))
    hidden = torch.randn(9, 128)
    chosen = torch.rand(9, 8).topk(3).indices
    chosen[:, 0] = 5  # one expert has every token, and some have none
    chosen[:, 1:] %= 4
    weights = torch.rand(9, 3)
    with torch.inference_mode():
        found, expected = (m(hidden, chosen, weights) for m in (experts, reference))
    assert relative_error(found, expected) < 0.06


def test_scales_of_the_wrong_shape_are_named(folder: Path) -> None:
    file = folder / "model.safetensors"
    tensors = load_file(file)
    name = "model.layers.0.self_attn.q_a_proj.weight_scale_inv"
    tensors[name] = torch.ones(2, 1)
    save_file(tensors, file)
    with pytest.raises(ValueError, match=name + r" is \[2, 1\], expected \[1, 1\]") as caught:
        load_language_model(folder, is_fp8=True)
    assert "\n" not in str(caught.value)


def test_without_fp8_in_the_checkpoint_there_is_nothing_to_keep(tmp_path: Path) -> None:
    save_model(build_model(ModelConfig.from_dict(IN_BLOCKS)), tmp_path / "plain")
    model = load_language_model(tmp_path / "plain", is_fp8=True)
    assert not any(isinstance(module, Fp8Linear) for module in model.modules())


def test_a_cpu_has_no_fp8_units() -> None:
    assert not has_fp8_matmul(torch.device("cpu"))


@pytest.mark.gpu
def test_the_gpu_multiplies_as_the_emulation() -> None:
    device = torch.device("cuda")
    if torch.cuda.get_device_capability() != (9, 0):
        pytest.skip("FP8 in blocks needs a GPU of capability 9.0")
    assert has_fp8_matmul(device)
    for num_rows, num_inputs, num_outputs in ((1, 128, 128), (5, 384, 256), (130, 1536, 640)):
        hidden = torch.randn(num_rows, num_inputs).bfloat16()
        weight, scale_inv = quantize_blocks(torch.randn(num_outputs, num_inputs))
        expected = fp8_matmul(hidden, weight, scale_inv).float()
        found = fp8_matmul(hidden.to(device), weight.to(device), scale_inv.to(device))
        assert relative_error(found.float().cpu(), expected) < 0.01
