"""The miniature's data beside its problems: talk to imitate, and preferences to learn from."""

from __future__ import annotations

import random
from pathlib import Path

from pydantic import Field

from r1.config import Config
from r1.run_log import RunFolder, write_jsonl
from r1.tasks.miniature_general import preference_rows, safety_rows, sft_rows


class MiniatureDataConfig(Config):
    """How many rows of each."""

    output: Path
    seed: int = 0
    num_preferences: int = Field(default=640, ge=1)
    num_safety: int = Field(default=640, ge=1)


def write_miniature_data(config: MiniatureDataConfig) -> Path:
    """Write talk.jsonl, preferences.jsonl and safety.jsonl; returns their folder."""
    with RunFolder.open(config.output, config=config) as run:
        rng = random.Random(config.seed)
        write_jsonl(run.path / "talk.jsonl", sft_rows())
        preferences = preference_rows(rng, config.num_preferences)
        write_jsonl(run.path / "preferences.jsonl", preferences)
        write_jsonl(run.path / "safety.jsonl", safety_rows(rng, config.num_safety))
        return run.path
