"""Verbs that train: a whole recipe, or one of its stages."""

from __future__ import annotations

from r1.cli.settings import DryRun, Settings, run_verb, split_settings


def run(settings: Settings, dry_run: DryRun = False) -> None:
    """Run a whole recipe: stage by stage into one run folder, with a report.

    [dim]r1 run recipes/quickstart.toml
    r1 run recipes/quickstart.toml output=runs/try stages.r1_zero.group_size=16 --dry-run[/dim]
    """
    path, overrides = split_settings(settings)
    if path is None:
        raise ValueError("r1 run needs a recipe, such as recipes/quickstart.toml")
    if not dry_run:
        from r1.pipeline.run import run_recipe

        run_recipe(path, overrides)
        return
    from r1.pipeline.dry_run import describe
    from r1.pipeline.recipe import plan_recipe

    plan = plan_recipe(path, overrides)
    print(describe(plan.config, plan.stages))


def sft(settings: Settings, dry_run: DryRun = False) -> None:
    """Supervised fine-tuning on prompts and completions, or pretraining on full text.

    [dim]r1 sft model=smollm2 data=rows.jsonl output=runs/sft learning_rate=1e-5[/dim]
    """
    from r1.training.sft import SftConfig, run_sft

    run_verb("sft", SftConfig, run_sft, settings, dry_run)


def grpo(settings: Settings, dry_run: DryRun = False) -> None:
    """Reinforcement learning with group-relative advantages and rule-based rewards.

    [dim]r1 grpo grpo.toml group_size=8 task.name=gsm8k output=runs/grpo[/dim]
    """
    from r1.training.grpo import GrpoConfig, run_grpo

    run_verb("grpo", GrpoConfig, run_grpo, settings, dry_run)


def reward(settings: Settings, dry_run: DryRun = False) -> None:
    """Train a reward model: a scalar head, from pairs or from labels.

    [dim]r1 reward kind=pairwise model=smollm2 data=pairs.jsonl output=runs/preference[/dim]
    """
    from r1.training.reward_model import RewardModelConfig, run_reward_model

    run_verb("reward", RewardModelConfig, run_reward_model, settings, dry_run)


def sample(settings: Settings, dry_run: DryRun = False) -> None:
    """Rejection sampling: several replies a prompt, graded, filtered, kept as SFT data.

    [dim]r1 sample model=runs/zero/checkpoint task.name=gsm8k output=runs/kept[/dim]
    """
    from r1.training.rejection_sampling import SampleConfig, run_sample

    run_verb("sample", SampleConfig, run_sample, settings, dry_run)


def preferences(settings: Settings, dry_run: DryRun = False) -> None:
    """Preference pairs for `r1 reward`: replies that a judge compares four times, in both orders.

    [dim]r1 preferences data=runs/replies/data.jsonl judge.server.url=http://localhost:8000/v1
    judge.server.model=deepseek-v3 judge.temperature=0.7 output=runs/preferences[/dim]
    """
    from r1.training.preference_pairs import PreferencesConfig, run_preferences

    run_verb("preferences", PreferencesConfig, run_preferences, settings, dry_run)
