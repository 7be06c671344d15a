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
from r1.training.optimizer import NonFiniteError, Optimizer
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
    optimizer = Optimizer(model, settings.optimizer, settings.steps)
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
    implicit, metrics = update(tiny_policy, batch, config())
    explicit, _ = update(tiny_policy, replace(batch, old_logprobs=old), config())
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
        update_policy(
            model, Optimizer(model, settings.optimizer, 10), batch, settings, max_tokens=16
        )
    assert not changes(model, before).any()
