from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import nn

from r1.atomic_files import RunError
from r1.training.checkpoint import (
    TrainState,
    capture,
    load_state,
    restore,
    save_state,
    with_prefix,
)
from r1.training.optimizer import Optimizer, OptimizerConfig


class Tied(nn.Module):
    """A tied head, a buffer to keep and one to drop."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed_tokens = nn.Embedding(6, 4, dtype=dtype)
        self.norm = nn.LayerNorm(4, dtype=dtype)
        self.lm_head = nn.Linear(4, 6, bias=False, dtype=dtype)
        self.lm_head.weight = self.embed_tokens.weight
        self.bias: torch.Tensor
        self.register_buffer("bias", torch.zeros(3))
        self.register_buffer("cache", torch.zeros(3), persistent=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.lm_head(self.norm(self.embed_tokens(ids)))


def train(model: Tied, optimizer: Optimizer, steps: range) -> None:
    for step in steps:
        ids = torch.randint(6, (9,), generator=torch.Generator().manual_seed(step))
        optimizer.backward(nn.functional.cross_entropy(model(ids).float(), ids.roll(1)))
        optimizer.step()
        model.bias += 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("moments_dtype", ["float32", "bfloat16"])
def test_a_restored_run_continues_bit_for_bit(
    tmp_path: Path, dtype: torch.dtype, moments_dtype: Literal["float32", "bfloat16"]
) -> None:
    config = OptimizerConfig(
        learning_rate=0.01, warmup_steps=2, weight_decay=0.1, moments_dtype=moments_dtype
    )
    model = Tied(dtype)
    optimizer = Optimizer(model, config, 8)
    train(model, optimizer, range(4))
    save_state(tmp_path, capture(model, optimizer, 4, extra={"cursor": [1, 0.1]}))
    train(model, optimizer, range(4, 8))

    resumed = Tied(dtype)
    resumed_optimizer = Optimizer(resumed, config, 8)
    state = load_state(tmp_path)
    assert state is not None
    assert (state.step, state.extra["cursor"]) == (4, [1, 0.1])
    restore(state, resumed, resumed_optimizer)
    assert resumed.lm_head.weight is resumed.embed_tokens.weight
    train(resumed, resumed_optimizer, range(4, 8))
    expected = capture(model, optimizer, 8).tensors
    actual = capture(resumed, resumed_optimizer, 8).tensors
    assert expected.keys() == actual.keys()
    assert "model.lm_head.weight" not in actual and "model.cache" not in actual
    assert all(torch.equal(expected[name], actual[name]) for name in expected)
    moments = actual["optimizer.exp_avg.norm.weight"]
    assert moments.dtype == getattr(torch, moments_dtype)
    other = {"float32": "bfloat16", "bfloat16": "float32"}[moments_dtype]
    config = config.model_copy(update={"moments_dtype": other})
    with pytest.raises(ValueError, match=f"is torch.{moments_dtype} .*needed: torch.{other}"):
        restore(state, Tied(dtype), Optimizer(Tied(dtype), config, 8))


def test_a_state_before_the_first_step(tmp_path: Path) -> None:
    model = Tied()
    save_state(tmp_path, capture(model, Optimizer(model, OptimizerConfig(), 1), 0))
    state = load_state(tmp_path)
    assert state is not None
    restore(state, Tied(), Optimizer(Tied(), OptimizerConfig(), 1))


def test_the_newest_two_are_kept(tmp_path: Path) -> None:
    assert load_state(tmp_path / "absent") is None
    for step in (9, 10, 100):
        save_state(tmp_path, TrainState(step, {"a": torch.full((2,), step)}))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["step-00000010", "step-00000100"]
    state = load_state(tmp_path)
    assert state is not None and state.tensors["a"].tolist() == [100, 100]


def test_extra_tensors_keep_their_names(tmp_path: Path) -> None:
    model = Tied()
    reference = {"reference.norm.weight": torch.arange(4.0)[::1]}
    optimizer = Optimizer(model, OptimizerConfig(), 1)
    save_state(tmp_path, capture(model, optimizer, 1, extra_tensors=reference))
    state = load_state(tmp_path)
    assert state is not None
    assert with_prefix(state.tensors, "reference.")["norm.weight"].tolist() == [0, 1, 2, 3]


def test_the_state_of_another_model_is_refused(tmp_path: Path) -> None:
    model = Tied()
    state = capture(model, Optimizer(model, OptimizerConfig(), 1), 0)
    other = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="belongs to another model"):
        restore(state, other, Optimizer(other, OptimizerConfig(), 1))


def test_a_broken_state_is_reported(tmp_path: Path) -> None:
    folder = save_state(tmp_path, TrainState(1, {"a": torch.zeros(2)}))
    (folder / "tensors.safetensors").write_bytes(b"torn")
    with pytest.raises(RunError, match=r"step-00000001 cannot be read"):
        load_state(tmp_path)


def test_an_unwritable_folder_is_reported(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where the folder should be")
    with pytest.raises(RunError, match="state"):
        save_state(tmp_path / "state", TrainState(1, {}))


KILLED = """
import sys, itertools, pathlib, torch
from r1.training.checkpoint import TrainState, save_state
print("ready", flush=True)
for step in itertools.count(1):
    tensors = {name: torch.full((50_000,), float(step)) for name in "ab"}
    save_state(pathlib.Path(sys.argv[1]), TrainState(step, tensors, {"also": step}))
"""


def test_a_kill_at_any_moment_leaves_a_whole_state(tmp_path: Path) -> None:
    for delay_seconds in (0.11, 0.153):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, env=os.environ
        )
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        time.sleep(delay_seconds)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        state = load_state(tmp_path)
        if state is not None:
            assert state.extra["also"] == state.step
            assert all((tensor == state.step).all() for tensor in state.tensors.values())
    save_state(tmp_path, TrainState(10**6, {}))
    assert all(not path.name.startswith(".") for path in tmp_path.iterdir())
