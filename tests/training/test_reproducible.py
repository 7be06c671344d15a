"""Training computes nothing whose bits depend on which thread comes first.

Such a result differs only now and then, on a busy machine, so the operations are looked
at instead of the results: none may be one that PyTorch documents as nondeterministic.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from r1.models.architectures import build_model
from r1.models.hf_checkpoint import save_model
from r1.tasks.task import TaskConfig
from r1.text.tokenizer import Tokenizer
from r1.training.expert_balance import ExpertConfig
from r1.training.grpo import GrpoConfig, run_grpo
from r1.training.reward_model import RewardModelConfig, run_reward_model
from r1.training.sft import SftConfig, run_sft
from tests.small_models import deepseek_v3

# torch.use_deterministic_algorithms: what its documentation lists for the CPU.
UNORDERED = ("aten::index_put", "aten::_index_put_impl_", "aten::put_", "aten::scatter_reduce")


class Watch(TorchDispatchMode):
    """Notes each operation that adds up in no fixed order."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.unordered: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name
        self.names.add(name)
        accumulates = (kwargs or {}).get("accumulate") or (len(args) > 3 and args[3] is True)
        if name.startswith(UNORDERED) and (accumulates or "scatter" in name):
            self.unordered.add(name)
        return func(*args, **kwargs or {})


@contextmanager
def only_ordered() -> Iterator[None]:
    with Watch() as watch:
        yield
    assert "aten::mm" in watch.names
    assert not watch.unordered


def test_indexing_is_what_is_looked_for() -> None:
    states = torch.randn(4, 2, requires_grad=True)
    with Watch() as watch:
        states[torch.tensor([1, 1, 2])].sum().backward()
    assert watch.unordered


def test_sft(tmp_path: Path, tiny_policy: Path) -> None:
    rows = [{"prompt": "a?", "completion": f"b{n}"} for n in range(8)]
    config = SftConfig(output=tmp_path, model=str(tiny_policy), steps=2, batch_size=4)
    with only_ordered():
        run_sft(config, rows)


@pytest.mark.parametrize("kind", ["pairwise", "pointwise"])
def test_reward_model(tmp_path: Path, tiny_policy: Path, kind: Any) -> None:
    rows = [
        {"prompt": "a?", "chosen": "yes", "rejected": "no", "response": "yes", "label": n % 2}
        for n in range(8)
    ]
    settings = {"output": tmp_path, "model": str(tiny_policy), "kind": kind, "steps": 2}
    config = RewardModelConfig.model_validate(settings | {"batch_size": 4, "style": "plain"})
    with only_ordered():
        run_reward_model(config, rows)


@pytest.mark.parametrize("architecture", ["qwen2", "deepseek_v3"])
def test_grpo(
    tmp_path: Path,
    tiny_policy: Path,
    tiny_tokenizer: Tokenizer,
    letter_task: TaskConfig,
    architecture: str,
) -> None:
    """Groups share their prompt: its last token predicts the first of every reply."""
    policy = tiny_policy
    if architecture == "deepseek_v3":
        policy = tmp_path / "moe"
        shape = deepseek_v3(tiny_tokenizer.vocab_size, num_nextn_predict_layers=1)
        save_model(build_model(shape, seed=3), policy)
        tiny_tokenizer.save(policy)
    config = GrpoConfig(
        output=tmp_path / "run",
        model=str(policy),
        task=letter_task,
        steps=2,
        group_size=4,
        questions_per_step=2,
        updates_per_rollout=1,
        max_tokens=6,
        kl_coefficient=0.1,
        prompt_style="chat",
        experts=ExpertConfig(balance_loss_weight=1e-4 * (architecture == "deepseek_v3")),
    )
    with only_ordered():
        run_grpo(config)
