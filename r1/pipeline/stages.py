"""The kinds of stage that a recipe can name: for each its config and the verb that runs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1.config import Config
from r1.evaluation.run_evaluate import EvaluateConfig, run_evaluate
from r1.tasks.miniature.base_model import MiniatureBaseConfig, write_base
from r1.tasks.miniature.data import MiniatureDataConfig, write_miniature_data
from r1.training.grpo import GrpoConfig, run_grpo
from r1.training.preference_pairs import PreferencesConfig, run_preferences
from r1.training.rejection_sampling import SampleConfig, run_sample
from r1.training.reward_model import RewardModelConfig, run_reward_model
from r1.training.sft import SftConfig, run_sft


@dataclass(frozen=True, slots=True)
class StageKind:
    """A verb as a stage: `result` is what `@name` stands for, inside the stage's folder."""

    config_class: type[Config]
    run: Callable[[Any], object]
    result: str = ""
    makes_language_model: bool = False


STAGE_KINDS: Mapping[str, StageKind] = {
    "sft": StageKind(SftConfig, run_sft, "checkpoint", makes_language_model=True),
    "grpo": StageKind(GrpoConfig, run_grpo, "checkpoint", makes_language_model=True),
    "reward": StageKind(RewardModelConfig, run_reward_model, "checkpoint"),
    "sample": StageKind(SampleConfig, run_sample, "data.jsonl"),
    "preferences": StageKind(PreferencesConfig, run_preferences, "data.jsonl"),
    "evaluate": StageKind(EvaluateConfig, run_evaluate),
    "miniature_base": StageKind(MiniatureBaseConfig, write_base),
    "miniature_data": StageKind(MiniatureDataConfig, write_miniature_data),
}


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a recipe, resolved: nothing in it depends on the others any more.

    `inputs` are the names of the stages whose results it reads. `evaluation` is how its
    model is measured afterwards, or None.
    """

    name: str
    kind: str
    config: Any
    inputs: tuple[str, ...]
    evaluation: EvaluateConfig | None

    @property
    def path(self) -> Path:
        return self.config.output
