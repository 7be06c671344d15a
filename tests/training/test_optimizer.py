from __future__ import annotations

import copy
import math

import pytest
import torch
from pytest import approx
from torch import nn

from r1.training.optimizer import (
    NonFiniteError,
    Optimizer,
    OptimizerConfig,
    learning_rate_at,
)
from r1.training.parameter_state import _master_values


def tiny_model(dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.RMSNorm(8), nn.Linear(8, 2)).to(dtype)


def loss_of(model: nn.Module, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    dtype = next(model.parameters()).dtype
    return model(torch.randn(5, 4, generator=generator).to(dtype)).float().square().mean()


def test_schedule_by_hand() -> None:
    cosine = OptimizerConfig(learning_rate=1.0, warmup_steps=4, final_fraction=0.1)
    rates = [learning_rate_at(cosine, step, 15) for step in range(15)]
    assert rates[:5] == approx([0.25, 0.5, 0.75, 1.0, 1.0])
    assert rates[9] == approx(0.55)
    assert rates[-1] == approx(0.1)
    linear = OptimizerConfig(learning_rate=1.0, schedule="linear", final_fraction=0.0)
    assert [learning_rate_at(linear, s, 5) for s in range(5)] == approx([1, 0.75, 0.5, 0.25, 0])
    constant = OptimizerConfig(learning_rate=2.0, schedule="constant")
    assert learning_rate_at(constant, 10**6, 5) == 2.0
    assert learning_rate_at(cosine, 99, 15) == approx(0.1)
    assert learning_rate_at(OptimizerConfig(learning_rate=1.0), 0, 1) == 1.0


def test_equals_torch_adamw_with_decay_on_matrices_only() -> None:
    model = tiny_model()
    oracle = copy.deepcopy(model)
    config = OptimizerConfig(
        learning_rate=1e-2, schedule="constant", weight_decay=0.1, max_grad_norm=0.05
    )
    ours = Optimizer(model, config, 3)
    theirs = torch.optim.AdamW(
        [
            {"params": [p for p in oracle.parameters() if p.ndim == 2], "weight_decay": 0.1},
            {"params": [p for p in oracle.parameters() if p.ndim == 1], "weight_decay": 0.0},
        ],
        lr=1e-2,
        betas=(0.9, 0.95),
        foreach=False,
    )
    for step in range(3):
        ours.backward(loss_of(model, step))
        result = ours.step()
        loss_of(oracle, step).backward()
        norm = nn.utils.clip_grad_norm_(oracle.parameters(), 0.05)
        theirs.step()
        theirs.zero_grad()
        assert result.grad_norm == approx(norm.item(), rel=1e-5)
    for actual, expected in zip(model.parameters(), oracle.parameters(), strict=True):
        torch.testing.assert_close(actual, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_masters_keep_updates_that_half_precision_would_lose(dtype: torch.dtype) -> None:
    model = nn.Linear(1, 1, bias=False).to(dtype)
    with torch.no_grad():
        model.weight.fill_(1.0)
    config = OptimizerConfig(learning_rate=1e-4, schedule="constant")
    optimizer = Optimizer(model, config, 100)
    for _ in range(100):
        optimizer.backward(model(torch.ones(1, 1, dtype=dtype)).float().sum())
        optimizer.step()
    # Each step moves by 1e-4, less than half a step of bf16 (0.004) or fp16 (0.0005) at 1.
    master = optimizer.state_tensors()["master.weight"]
    values = _master_values(model.weight.detach(), master)
    assert values.item() == approx(0.99, abs=1e-4)
    assert model.weight.item() == approx(0.99, abs=0.004)
    assert model.weight.dtype == dtype


def test_fp16_gradients_below_its_range_survive() -> None:
    model = nn.Linear(1, 1, bias=False).half()
    optimizer = Optimizer(model, OptimizerConfig(max_grad_norm=0), 1)
    optimizer.backward(model(torch.ones(1, 1).half()).float().sum() * 1e-8)
    assert optimizer.step().grad_norm == approx(1e-8, rel=0.01)


def test_micro_batches_add_up_in_fp32() -> None:
    model = tiny_model(torch.bfloat16)
    optimizer = Optimizer(model, OptimizerConfig(), 1)
    for seed in range(4):
        optimizer.backward(loss_of(model, seed) / 4)
    sums = [torch.zeros_like(p, dtype=torch.float32) for p in model.parameters()]
    for seed in range(4):
        gradients = torch.autograd.grad(loss_of(model, seed) / 4, list(model.parameters()))
        sums = [total + g.float() for total, g in zip(sums, gradients, strict=True)]
    norm = math.sqrt(sum(total.square().sum().item() for total in sums))
    assert optimizer.step().grad_norm == approx(norm, rel=1e-4)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_changes_nothing(bad: float) -> None:
    model = tiny_model()
    optimizer = Optimizer(model, OptimizerConfig(), 10)
    optimizer.backward(loss_of(model, 0))
    optimizer.step()
    before = {n: t.clone() for n, t in {**model.state_dict(), **optimizer.state_tensors()}.items()}
    with pytest.raises(NonFiniteError, match=r"the loss is (nan|inf) at step 2"):
        optimizer.backward(loss_of(model, 1) * bad)
    optimizer.backward(loss_of(model, 1))
    next(model.parameters()).grad[0] = bad  # pyright: ignore[reportOptionalSubscript]
    with pytest.raises(NonFiniteError, match=r"the gradient norm is (nan|inf) at step 2"):
        optimizer.step()
    after = {**model.state_dict(), **optimizer.state_tensors()}
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_frozen_parameters_are_left_alone() -> None:
    model = tiny_model()
    next(model.parameters()).requires_grad_(False)
    frozen = next(model.parameters()).clone()
    optimizer = Optimizer(model, OptimizerConfig(learning_rate=0.1, weight_decay=0.1), 1)
    optimizer.backward(loss_of(model, 0))
    optimizer.step()
    assert torch.equal(next(model.parameters()), frozen)
    assert "exp_avg.0.weight" not in optimizer.state_tensors()
