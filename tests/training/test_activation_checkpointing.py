"""Layers computed again in the backward pass: fewer tensors kept, and the same bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from r1.kernels import segments
from r1.models.architectures import build_model
from r1.models.exact import make_exact
from r1.models.language_model import LanguageModel
from r1.models.model_config import ModelConfig
from r1.training.expert_balance import ExpertBalance, ExpertConfig
from r1.training.logprobs import token_loss
from r1.training.losses import sft_loss
from r1.training.packing import TokenSequence, pack_targets
from r1.training.shared_prompts import pack_replies
from tests.models.conftest import TINY, TINY_V3


def tiny(dtype: torch.dtype, **shape: Any) -> LanguageModel:
    model = build_model(ModelConfig.from_dict(shape), dtype, seed=1)
    assert isinstance(model, LanguageModel)
    return model


def sequences() -> list[TokenSequence]:
    """Groups of replies to one prompt, of odd lengths, one of a single token."""
    rng = np.random.default_rng(0)
    prompts = [rng.integers(0, 89, size).tolist() for size in (1, 17, 33)]
    return [
        TokenSequence.of(prompt, rng.integers(0, 89, size).tolist())
        for prompt in prompts
        for size in (1, 3, 40, 16)
    ]


def gradients(
    model: LanguageModel, *, is_checkpointed: bool, pack: Any = pack_targets, weight: float = 0.0
) -> tuple[list[Tensor], int]:
    """Of the loss of all rows, and the values kept for the backward pass."""
    model.model.is_checkpointed = is_checkpointed
    model.zero_grad()
    balance = ExpertBalance(model, ExpertConfig(balance_loss_weight=weight))
    num_kept = 0

    def count(tensor: Tensor) -> Tensor:
        nonlocal num_kept
        num_kept += tensor.numel()
        return tensor

    for row in pack(sequences(), 200):
        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            hidden_BTD, added = balance.forward(row, num_sequences=12, num_targets=180)
            hidden_PD = hidden_BTD[0, row.target_places_P]
            loss = token_loss(model, hidden_PD, row.targets_P, lambda p, _: sft_loss(p, 180)).loss
        (loss if added is None else loss + added).backward()
    return [p.grad.clone() for p in model.parameters() if p.grad is not None], num_kept


def assert_same(model: LanguageModel, **settings: Any) -> None:
    kept, num_kept = gradients(model, is_checkpointed=False, **settings)
    again, num_again = gradients(model, is_checkpointed=True, **settings)
    assert len(kept) == len(again) > 10
    assert all(torch.equal(one, other) for one, other in zip(kept, again, strict=True))
    assert any(gradient.any() for gradient in kept)
    assert num_again < 0.6 * num_kept


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("pack", [pack_targets, pack_replies])
@pytest.mark.parametrize("hidden_size", [24, 64])  # heads of 6: torch's attention; of 16: ours
@pytest.mark.parametrize("has_kernels", [True, False])
def test_gradients_have_the_same_bits(
    dtype: torch.dtype,
    pack: Any,
    hidden_size: int,
    has_kernels: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not has_kernels:
        monkeypatch.setattr(segments, "_functions", lambda dtype: None)
        monkeypatch.setattr("r1.kernels.fused.training_kernels_of", lambda dtype: None)
    shape = {**TINY, "architectures": ["LlamaForCausalLM"], "hidden_size": hidden_size}
    assert_same(tiny(dtype, **shape), pack=pack)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_in_exact_mode(dtype: torch.dtype) -> None:
    shape = {**TINY, "architectures": ["LlamaForCausalLM"], "hidden_size": 64}
    model = tiny(dtype, **shape)
    make_exact(model)
    assert_same(model)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_of_experts_with_their_balance_loss(dtype: torch.dtype) -> None:
    assert_same(tiny(dtype, **TINY_V3), weight=0.1)
