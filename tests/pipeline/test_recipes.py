"""The recipes that are shipped: they can be planned, and they hold the paper's numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from r1.models.presets import PRESETS
from r1.pipeline.dry_run import describe
from r1.pipeline.recipe import Plan, plan_recipe

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
PAPERS = ("r1_zero", "r1", "distill")


def plan(name: str, *overrides: str) -> Plan:
    return plan_recipe(RECIPES / f"{name}.toml", overrides)


def stage(planned: Plan, name: str) -> Any:
    return next(stage for stage in planned.stages if stage.name == name).config


def name_of(path: Path) -> str:
    return "_".join(path.relative_to(RECIPES).with_suffix("").parts)


@pytest.mark.parametrize("path", sorted(RECIPES.rglob("*.toml")), ids=name_of)
def test_every_recipe_can_be_planned(path: Path) -> None:
    planned = plan_recipe(path)
    assert planned.config.name == name_of(path)
    assert planned.config.output == Path("runs") / name_of(path)
    assert planned.config.description
    assert planned.config.final in [stage.name for stage in planned.stages]


@pytest.mark.parametrize(
    ("recipe", "name"),
    [("r1_zero", "r1_zero"), ("r1", "reasoning_rl"), ("r1", "r1"), ("distill", "student_rl")],
)
def test_what_all_reinforcement_learning_shares(recipe: str, name: str) -> None:
    overrides = ["stages.student_rl.enabled=true"] if recipe == "distill" else []
    config = stage(plan(recipe, *overrides), name)
    assert config.learning_rate == 3e-6
    assert config.kl_coefficient == 0.001
    assert (config.group_size, config.questions_per_step) == (16, 32)
    num_outputs = config.group_size * config.questions_per_step * config.updates_per_rollout
    assert (num_outputs, config.updates_per_rollout, config.inner_epochs) == (8_192, 16, 1)
    assert config.reference_refresh_steps == 400
    assert config.max_tokens_at(0) == 32_768


def test_r1_zero() -> None:
    config = stage(plan("r1_zero"), "r1_zero")
    assert config.steps == 10_400
    assert config.temperature == 1.0
    assert config.prompt_style == "r1_zero"
    assert (config.max_tokens_at(8_199), config.max_tokens_at(8_200)) == (32_768, 65_536)
    assert config.reward_weights == {"accuracy": 1.0, "format": 1.0}


def test_r1_reinforcement_learning() -> None:
    planned = plan("r1")
    first, second = stage(planned, "reasoning_rl"), stage(planned, "r1")
    assert (first.temperature, second.temperature) == (1.0, 0.7)
    assert (first.clip_low, first.clip_high) == (10.0, 10.0)
    assert first.reward_weights == {"accuracy": 1.0, "format": 1.0, "language": 1.0}
    assert second.steps == 1_700
    assert second.steps - second.preference_from_step == 400
    general = second.tasks[1]
    assert (general.task.name, general.from_step) == ("prompts", 1_300)
    assert set(second.reward_models) == {"preference", "safety"}


def test_r1_supervised_stages() -> None:
    planned = plan("r1")
    assert stage(planned, "cold_start_data").temperature == 1.0
    assert stage(planned, "cold_start_data").rewrite == "model"
    assert stage(planned, "rejection_data").general_ratio == pytest.approx(200 / 600)
    assert stage(planned, "rejection_data").filters.no_code_in_thought
    config = stage(planned, "sft")
    # From the base again, not from the checkpoint of reinforcement learning.
    assert config.model == stage(planned, "cold_start").model == "Qwen/Qwen2.5-32B"
    assert (config.epochs, config.learning_rate, config.batch_size) == (2, 5e-6, 64)
    assert (config.schedule, config.final_fraction, config.max_length) == ("cosine", 0.1, 32_768)


def test_r1_reward_models() -> None:
    planned = plan("r1")
    helpful, safe = stage(planned, "preference_model"), stage(planned, "safety_model")
    for config in (helpful, safe):
        assert (config.batch_size, config.learning_rate, config.epochs) == (256, 6e-6, 1)
    assert helpful.max_length == 8_192
    assert (helpful.kind, helpful.settings.score_on) == ("pairwise", "summary")
    assert (safe.kind, safe.settings.score_on) == ("pointwise", "response")


def test_distillation() -> None:
    assert [stage.name for stage in plan("distill").stages] == ["student"]
    config = stage(plan("distill"), "student")
    assert (config.model, config.learning_rate) == ("Qwen/Qwen2.5-32B", 6e-5)
    assert (config.batch_size, config.max_length, config.final_fraction) == (64, 32_768, 0.1)
    assert config.epochs in (2, 3)


@pytest.mark.parametrize("name", PAPERS)
def test_a_dry_run_says_how_much_and_what_is_missing(name: str) -> None:
    models = [f"inputs.{key}=tiny" for key in plan(name).config.inputs if key.endswith("_model")]
    planned = plan(name, *models, "inputs.benchmark=/nowhere/aime.jsonl")
    text = describe(planned.config, planned.stages)
    assert "memory about" in text
    assert "memory unknown" not in text
    _, _, missing = text.partition("# missing: it cannot run before these are there\n")
    lines = missing.splitlines()
    told = [line for line in lines if "/nowhere/aime.jsonl" in line]
    assert len(told) == 1, "each once, with the stages that need it"
    assert told[0].startswith("task.test_path: no such file: /nowhere/aime.jsonl (for ")
    assert all("no such file" in line for line in lines)
    assert "learning rate" in text


def test_a_recipe_for_each_distilled_model() -> None:
    distilled = [preset for preset in PRESETS.values() if preset.recipe]
    assert len(distilled) == 6
    assert {preset.recipe for preset in distilled} == {
        str(path.relative_to(RECIPES.parent)) for path in RECIPES.glob("distill/*.toml")
    }
    for preset in distilled:
        assert preset.recipe is not None and preset.base is not None
        planned = plan_recipe(RECIPES.parent / preset.recipe)
        config = stage(planned, "student")
        assert config.model == PRESETS[preset.base].hub_id
        assert config.learning_rate == preset.distill_learning_rate
        assert (config.batch_size, config.max_length, config.final_fraction) == (64, 32_768, 0.1)
