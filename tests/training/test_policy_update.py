from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from r1.models.hf_checkpoint import load_model
from r1.models.llama import LlamaForCausalLM
from r1.records import Grade, Problem, Rollout, Sample
from r1.tasks.task import TaskConfig
from r1.training.grpo_config import GrpoConfig
from r1.training.optimizer import NonFiniteError, Optimizer, StepResult
from r1.training.policy_update import PolicyBatch, reply_logprobs, update_policy

PROBLEM = Problem("p", "?", "a")


def policy(folder: Path) -> LlamaForCausalLM:
    model = load_model(folder)
    assert isinstance(model, LlamaForCausalLM)
    return model


def config(**settings: object) -> GrpoConfig:
    values: dict[str, object] = {
        "output": "unused",
        "model": "unused",
        "task": TaskConfig(name="letters"),
        "learning_rate": 1e-2,
        "kl_coefficient": 0.0,
        "steps": 10,
        "max_tokens": 16,
        "max_grad_norm": 0.0,
    }
    return GrpoConfig.model_validate(values | settings)


def make_rollouts(num: int = 6) -> list[Rollout]:
    rng = np.random.default_rng(0)
    made = []
    for i in range(num):
        tokens = tuple(rng.integers(0, 90, size=2 + 3 * i).tolist())
        logprobs = tuple((-4.5 + 0.1 * rng.standard_normal(len(tokens))).tolist())
        finish = "length" if i == num - 1 else "stop"
        sample = Sample("q", i, (5, 6, 7), tokens, "", logprobs, logprobs, finish)
        advantage = None if i == 1 else float(rng.standard_normal())
        made.append(Rollout(PROBLEM, sample, Grade(1.0), 1.0, advantage))
    return made


def changes(model: LlamaForCausalLM, before: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([(p.detach() - before[n]).flatten() for n, p in model.named_parameters()])


def update(folder: Path, batch: PolicyBatch, settings: GrpoConfig) -> tuple[torch.Tensor, dict]:
    model = policy(folder)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    optimizer = Optimizer(model, settings, settings.steps)
    result = update_policy(model, optimizer, batch, settings, max_tokens=16)
    return changes(model, before), result.metrics()


@pytest.mark.parametrize("normalize_by", ["sequence", "token", "constant"])
def test_an_update_does_not_depend_on_micro_batches(tiny_policy: Path, normalize_by: str) -> None:
    batch = PolicyBatch.from_rollouts(make_rollouts(), mask_overlong=False)
    reference = reply_logprobs(policy(tiny_policy), batch.sequences, config())
    batch = replace(batch, reference_logprobs=reference)
    results = [
        update(
            tiny_policy,
            batch,
            config(micro_batch_tokens=tokens, normalize_by=normalize_by, kl_coefficient=0.1),
        )
        for tokens in (1, 24, 4096)
    ]
    for _, metrics in results[1:]:
        assert metrics == pytest.approx(results[0][1], rel=1e-4, abs=1e-5)


class RecordingOptimizer(Optimizer):
    """Keeps the gradient, and the loss as the micro-batches' sum, of its only step."""

    loss = 0.0
    gradient = torch.empty(0)

    def backward(self, loss: torch.Tensor) -> None:
        self.loss += loss.item()
        super().backward(loss)

    def step(self) -> StepResult:
        grads = [s.gradient for s in self._states.values() if s.gradient is not None]
        self.gradient = torch.cat([grad.flatten() for grad in grads])
        return super().step()


def loss_reply_by_reply(
    model: LlamaForCausalLM, batch: PolicyBatch, normalize_by: str
) -> torch.Tensor:
    """The objective as the papers write it: a forward pass for each reply, no packing."""
    assert batch.old_logprobs is not None and batch.reference_logprobs is not None
    kept = [i for i in range(len(batch)) if not batch.is_masked[i]]
    num_tokens = sum(batch.sequences[i].num_targets for i in kept)
    total = torch.zeros(())
    for i in kept:
        ids = torch.from_numpy(batch.sequences[i].token_ids.astype(np.int64))[None]
        hidden = model(ids, torch.arange(ids.shape[1])[None])
        logprobs = (model.compute_logits(hidden)[0, :-1] / 0.8).log_softmax(-1)
        length = batch.sequences[i].num_targets
        policy_logprobs = logprobs.gather(1, ids[0, 1:, None])[-length:, 0]
        old, advantage = batch.old_logprobs[i], batch.advantages[i]
        ratio = (policy_logprobs - old).exp()
        objective = torch.minimum(ratio * advantage, ratio.clamp(0.9, 1.3) * advantage)
        objective = objective * (old - batch.sampler_logprobs[i]).exp().clamp(max=1.1)
        log_ratio = batch.reference_logprobs[i] - policy_logprobs
        losses = -objective + 0.2 * (log_ratio.exp() - log_ratio - 1)
        share = {
            "sequence": losses.mean() / len(kept),
            "token": losses.sum() / num_tokens,
            "constant": losses.sum() / (16 * len(kept)),
        }
        total = total + share[normalize_by]
    return total


@pytest.mark.parametrize("mask_overlong", [False, True])
@pytest.mark.parametrize("normalize_by", ["sequence", "token", "constant"])
def test_loss_and_gradient_are_those_of_the_formula_for_any_packing(
    tiny_policy: Path, normalize_by: str, mask_overlong: bool
) -> None:
    model = policy(tiny_policy)
    batch = PolicyBatch.from_rollouts(make_rollouts(), mask_overlong=mask_overlong)
    own = reply_logprobs(model, batch.sequences, config(temperature=0.8))
    generator = torch.Generator().manual_seed(0)
    old, reference, sampler = (
        tuple(each + 0.2 * torch.randn(each.shape, generator=generator) for each in own)
        for _ in range(3)
    )
    batch = replace(batch, old_logprobs=old, reference_logprobs=reference, sampler_logprobs=sampler)
    expected = loss_reply_by_reply(model, batch, normalize_by)
    gradients = torch.autograd.grad(expected, list(model.parameters()))
    expected_gradient = torch.cat([gradient.flatten() for gradient in gradients])
    for micro_batch_tokens in (1, 24, 4096):
        settings = config(
            micro_batch_tokens=micro_batch_tokens,
            normalize_by=normalize_by,
            temperature=0.8,
            kl_coefficient=0.2,
            clip_low=0.1,
            clip_high=0.3,
            sampler_ratio_cap=1.1,
        )
        trained = policy(tiny_policy)
        optimizer = RecordingOptimizer(trained, settings, 10)
        update_policy(trained, optimizer, batch, settings, max_tokens=16)
        assert optimizer.loss == pytest.approx(expected.item(), abs=1e-5)
        torch.testing.assert_close(optimizer.gradient, expected_gradient, atol=1e-5, rtol=1e-4)


def test_ungraded_replies_are_not_in_the_batch() -> None:
    rollouts = make_rollouts()
    assert len(PolicyBatch.from_rollouts(rollouts, mask_overlong=False)) == len(rollouts) - 1


def test_masked_replies_teach_nothing(tiny_policy: Path) -> None:
    rollouts = [r for r in make_rollouts() if r.advantage is not None]
    masked = PolicyBatch.from_rollouts(rollouts, mask_overlong=True)
    assert masked.is_masked == (False,) * 4 + (True,)
    without = PolicyBatch.from_rollouts(rollouts[:-1], mask_overlong=False)
    settings = config()
    assert torch.allclose(
        update(tiny_policy, masked, settings)[0], update(tiny_policy, without, settings)[0]
    )


def test_replies_without_advantage_are_measured_and_move_nothing(tiny_policy: Path) -> None:
    flat = [replace(r, advantage=0.0) for r in make_rollouts()]
    batch = PolicyBatch.from_rollouts(flat, mask_overlong=False)
    change, metrics = update(tiny_policy, batch, config())
    assert not change.any()
    assert metrics["grad_norm"] == 0.0
    assert metrics["entropy"] > 4.0


def test_an_empty_batch_is_no_error(tiny_policy: Path) -> None:
    change, metrics = update(
        tiny_policy, PolicyBatch.from_rollouts([], mask_overlong=False), config()
    )
    assert not change.any() and metrics["entropy"] == 0.0


def test_an_unchanged_policy_is_its_own_old_policy(tiny_policy: Path) -> None:
    batch = PolicyBatch.from_rollouts(make_rollouts(), mask_overlong=False)
    old = reply_logprobs(policy(tiny_policy), batch.sequences, config())
    # A pass without gradients may round otherwise, and AdamW's first step would turn the
    # sign of a gradient that is all rounding into a full step.
    implicit, metrics = update(tiny_policy, batch, config(epsilon=1e-3))
    explicit, _ = update(tiny_policy, replace(batch, old_logprobs=old), config(epsilon=1e-3))
    assert torch.allclose(implicit, explicit, atol=1e-6)
    assert metrics["clip_fraction"] == 0.0 and metrics["policy_kl"] == 0.0


def test_log_probs_are_those_of_the_temperature(tiny_policy: Path) -> None:
    batch = PolicyBatch.from_rollouts(make_rollouts(1), mask_overlong=False)
    model, sequence = policy(tiny_policy), batch.sequences[0]
    (logprobs,) = reply_logprobs(model, [sequence], config(temperature=0.5))
    ids = torch.from_numpy(sequence.token_ids)[None]
    with torch.no_grad():
        logits = model.compute_logits(model(ids, torch.arange(ids.shape[1])[None]))[0]
    expected = (logits / 0.5).log_softmax(-1)[2:4].gather(1, ids[0, 3:, None])[:, 0]
    assert torch.allclose(logprobs, expected, atol=1e-5)


def test_a_loss_that_is_not_finite_changes_nothing(tiny_policy: Path) -> None:
    batch = PolicyBatch.from_rollouts(make_rollouts(), mask_overlong=False)
    batch = replace(batch, advantages=(float("inf"), *batch.advantages[1:]))
    model = policy(tiny_policy)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    settings = config()
    with pytest.raises(NonFiniteError):
        update_policy(model, Optimizer(model, settings, 10), batch, settings, max_tokens=16)
    assert not changes(model, before).any()
