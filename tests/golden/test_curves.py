"""Curves that a change which should not alter numbers must not alter.

After a change that should alter them, `R1_WRITE_GOLDEN=1 pytest tests/golden` writes them
anew; the commit then says why they moved.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from r1.config import parse_config
from r1.run_log import JsonlLog
from r1.tasks.miniature.general import sft_rows
from r1.tasks.task import TaskConfig
from r1.training.grpo import GrpoConfig, run_grpo
from r1.training.sft import SftConfig, run_sft

FOLDER = Path(__file__).parent


def check(name: str, metrics: JsonlLog, keys: Sequence[str]) -> None:
    rows = metrics.rows()
    measured = {key: [row[key] for row in rows] for key in keys}
    file = FOLDER / f"{name}.json"
    if os.environ.get("R1_WRITE_GOLDEN"):
        file.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    golden = json.loads(file.read_text(encoding="utf-8"))
    assert set(golden) == set(measured)
    for key, values in golden.items():
        # Sums are rounded in another order on another processor; nothing else may differ.
        assert measured[key] == pytest.approx(values, rel=1e-3, abs=1e-5), key


def test_sft_loss_curve(tmp_path: Path):
    config = SftConfig(
        output=tmp_path, model="tiny", steps=6, batch_size=8, learning_rate=1e-3, device="cpu"
    )
    run_sft(config, rows=list(sft_rows())[:24])
    check("sft", JsonlLog(tmp_path / "metrics.jsonl"), ["loss", "grad_norm", "num_tokens"])


def test_grpo_curves(tmp_path: Path):
    settings = {
        "output": str(tmp_path),
        "model": "tiny",
        "task": TaskConfig(name="miniature/sums", num_train=40, num_test=1).model_dump(mode="json"),
        "steps": 3,
        "group_size": 6,
        "questions_per_step": 6,
        "updates_per_rollout": 1,
        "max_tokens": 96,
        "learning_rate": 3e-4,
        "kl_coefficient": 0.01,
        "reference_refresh_steps": 0,
        "normalize_by": "token",
        "device": "cpu",
    }
    run_grpo(parse_config(GrpoConfig, settings, "test"))
    keys = ["reward", "accuracy", "response_tokens_mean", "entropy", "kl_to_reference", "grad_norm"]
    check("grpo", JsonlLog(tmp_path / "metrics.jsonl"), keys)
