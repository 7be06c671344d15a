"""Masters of which the weight is the upper half, moments in bf16, and parts of a parameter."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from r1.training import parameter_state
from r1.training.optimizer import Optimizer, OptimizerConfig
from r1.training.parameter_state import _master_values, _round_master

CONFIG = OptimizerConfig(learning_rate=1e-2, schedule="constant", weight_decay=0.1)


def bits_of(values: Tensor) -> Tensor:
    return values.contiguous().view(torch.int32)


def test_a_master_is_kept_to_the_last_bit() -> None:
    random = torch.randint(-(2**31), 2**31, (100_000,)).to(torch.int32).view(torch.float32)
    random = random[random.isfinite()]
    odd = [0.0, -0.0, 1.0, -1.0, 2**-149, -(2**-130), 3.4028235e38, 1 + 2**-8, -(1 + 3 * 2**-8)]
    values = torch.cat([torch.tensor(odd), random])
    weight = torch.empty(len(values), dtype=torch.bfloat16)
    master = torch.empty(len(values), dtype=torch.int16)
    _round_master(values.clone(), weight, master)
    assert torch.equal(bits_of(_master_values(weight, master)), bits_of(values))
    # Rounded to nearest, as torch does; ties go away from 0, torch's to the even one.
    is_tie = (bits_of(values) & 0xFFFF) == 0x8000
    assert is_tie.any()
    assert torch.equal(weight[~is_tie], values[~is_tie].bfloat16())
    distance = (weight.float() - values).abs()
    assert (distance <= (values.bfloat16().float() - values).abs())[weight.isfinite()].all()
    assert (weight.float().abs() >= values.abs())[is_tie].all()


def layers(dtype: torch.dtype) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(33, 67), nn.RMSNorm(67), nn.Linear(67, 3, bias=False)).to(dtype)


def loss_of(model: nn.Module, seed: int) -> Tensor:
    rows = torch.randn(5, 33, generator=torch.Generator().manual_seed(seed))
    return model(rows.to(next(model.parameters()).dtype)).float().square().mean()


def train(dtype: torch.dtype, config: OptimizerConfig, num_steps: int = 4) -> dict[str, Tensor]:
    model = layers(dtype)
    optimizer = Optimizer(model, config, num_steps)
    for step in range(num_steps):
        optimizer.backward(loss_of(model, 2 * step))
        optimizer.backward(loss_of(model, 2 * step + 1))
        optimizer.step()
    return {**model.state_dict(), **optimizer.state_tensors()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("moments", ["float32", "bfloat16"])
def test_the_size_of_the_parts_changes_no_bit(
    dtype: torch.dtype, moments: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = CONFIG.model_copy(update={"moments_dtype": moments})
    whole = train(dtype, config)
    monkeypatch.setattr(parameter_state, "_CHUNK_VALUES", 64)
    parts = train(dtype, config)
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert whole["exp_avg.0.weight"].dtype == getattr(torch, moments)


def test_bf16_weights_follow_adamw_in_fp32() -> None:
    """The oracle: torch's AdamW on fp32 copies, with the gradients of the rounded weights."""
    model, num_steps = layers(torch.bfloat16), 5
    optimizer = Optimizer(model, CONFIG, num_steps)
    copies = {n: nn.Parameter(p.detach().float()) for n, p in model.named_parameters()}
    groups = [
        {"params": [p for p in copies.values() if (p.ndim >= 2) == is_decayed], "weight_decay": d}
        for is_decayed, d in ((True, 0.1), (False, 0.0))
    ]
    oracle = torch.optim.AdamW(groups, lr=1e-2, betas=(0.9, 0.95), fused=True)
    for step in range(num_steps):
        gradients = torch.autograd.grad(loss_of(model, step), list(model.parameters()))
        optimizer.backward(loss_of(model, step))
        optimizer.step()
        for copy, gradient in zip(copies.values(), gradients, strict=True):
            copy.grad = gradient.float()
        nn.utils.clip_grad_norm_(copies.values(), 1.0)
        oracle.step()
        state = optimizer.state_tensors()
        for name, parameter in model.named_parameters():
            master = _master_values(parameter.detach(), state[f"master.{name}"])
            torch.testing.assert_close(master, copies[name].detach(), atol=1e-7, rtol=1e-6)
            is_tie = (bits_of(master) & 0xFFFF) == 0x8000
            assert is_tie.float().mean() < 0.01
            assert torch.equal(parameter.detach()[~is_tie], master.bfloat16()[~is_tie])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_moments_in_bf16_train_as_well(dtype: torch.dtype) -> None:
    config = CONFIG.model_copy(update={"moments_dtype": "bfloat16"})
    single, half = train(dtype, CONFIG, 30), train(dtype, config, 30)
    start = layers(dtype).state_dict()
    for name, before in start.items():
        moved = (single[name] - before).float().norm()
        assert (half[name] - single[name]).float().norm() < 0.1 * moved
    for mean in ("exp_avg", "exp_avg_sq"):
        kept, rounded = single[f"{mean}.0.weight"], half[f"{mean}.0.weight"].float()
        assert (rounded - kept).norm() < 0.05 * kept.norm()


def test_means_that_would_stand_still_are_refused() -> None:
    with pytest.raises(ValueError, match=r"a beta of 0.999: means that change by less than 0.4%"):
        OptimizerConfig(moments_dtype="bfloat16", beta2=0.999)
    # The reason: a second moment that no gradient feeds any more.
    for beta, is_stuck in ((0.999, True), (1 - 2.0**-8 - 1e-3, False)):
        mean = torch.linspace(1, 2, 256)[:-1].bfloat16()
        after = (mean.float() * beta).bfloat16()
        assert torch.equal(after, mean) == is_stuck
        assert is_stuck or (after < mean).all()
