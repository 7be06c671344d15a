from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from r1.run_log import JsonlLog, RunError
from r1.tasks.task import TaskConfig
from r1.training import grpo
from r1.training.grpo import GrpoConfig, run_grpo


def make_config(output: Path, policy: Path, task: TaskConfig, **settings: Any) -> GrpoConfig:
    values: dict[str, Any] = {
        "output": output,
        "model": str(policy),
        "task": task,
        "prompt_style": "chat",
        "steps": 4,
        "group_size": 4,
        "questions_per_step": 3,
        "updates_per_rollout": 1,
        "max_tokens": 6,
        "learning_rate": 3e-3,
        "reward_weights": {"accuracy": 1.0},
        "reference_refresh_steps": 2,
        "save_every": 2,
        "samples_every": 2,
        "samples_groups": 1,
        "micro_batch_tokens": 64,
        "device": "cpu",
        "engine": {"num_blocks": 256},
    }
    return GrpoConfig.model_validate(values | settings)


def metrics_of(folder: Path) -> list[dict[str, Any]]:
    return JsonlLog(folder / "metrics.jsonl").rows()


def test_learns(tmp_path: Path, tiny_policy: Path, letter_task: TaskConfig) -> None:
    config = make_config(tmp_path / "run", tiny_policy, letter_task, steps=12, group_size=8)
    run_grpo(config)
    rows = metrics_of(tmp_path / "run")
    assert rows[-1]["reward"] > rows[0]["reward"] + 0.1
