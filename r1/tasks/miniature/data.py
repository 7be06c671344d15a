"""The miniature's data beside its problems: talk to imitate, and preferences to learn from."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

from pydantic import Field

from r1.config import Config
from r1.run_log import RunFolder, write_jsonl
from r1.tasks.miniature.general import preference_rows, safety_rows, sft_rows


class MiniatureDataConfig(Config):
    """How many rows of each; talk repeats when there are more rows than exchanges."""

    output: Path
    seed: int = 0
    num_talk: int = Field(default=330, ge=1)
    num_preferences: int = Field(default=640, ge=1)
    num_safety: int = Field(default=640, ge=1)


def write_miniature_data(config: MiniatureDataConfig) -> Path:
    """Write talk.jsonl, preferences.jsonl and safety.jsonl; returns their folder."""
    with RunFolder.open(config.output, config=config) as run:
        rng = random.Random(config.seed)
        talk = itertools.islice(itertools.cycle(sft_rows()), config.num_talk)
        write_jsonl(run.path / "talk.jsonl", talk)
        preferences = preference_rows(rng, config.num_preferences)
        write_jsonl(run.path / "preferences.jsonl", preferences)
        write_jsonl(run.path / "safety.jsonl", safety_rows(rng, config.num_safety))
        return run.path
