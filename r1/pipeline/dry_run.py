"""`--dry-run`: the resolved config, the stages, and the memory that they will take."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from r1.config import Config, dump_config
from r1.models.catalogue import resolve_model
from r1.models.gguf_checkpoint import GgufCheckpoint
from r1.models.hf_checkpoint import load_config as load_model_config
from r1.models.model_config import ModelConfig
from r1.models.parameter_count import num_parameters
from r1.pipeline.inputs import missing_inputs
from r1.pipeline.stages import Stage
from r1.training.grpo import GrpoConfig
from r1.training.loop import LoopConfig
from r1.training.memory import (
    VerbConfig,
    describe_changes,
    describe_memory,
    estimate_memory,
    within_bound,
)
from r1.training.preference_pairs import PreferencesConfig
from r1.training.rejection_sampling import SampleConfig


def describe(config: Config, stages: Sequence[Stage]) -> str:
    """The text of a dry run; starts nothing and loads no weights.

    A stage whose model an earlier stage makes has the sizes of that stage's model. What
    is missing is listed at the end.
    """
    lines = ["# resolved config", dump_config(config), "# stages"]
    made: dict[Path, ModelConfig] = {}
    outputs: list[Path] = []
    for number, stage in enumerate(stages, start=1):
        model_name = getattr(stage.config, "model", None)
        source = "" if model_name is None else f"{model_name} -> "
        lines.append(f"{number:>2}. {stage.name}: {stage.kind}, {source}{stage.path}")
        details = [describe_work(stage.config)]
        if isinstance(stage.config, VerbConfig):
            details.append(_describe_model(stage.config, made, outputs))
        lines += [f"    {detail}" for detail in details if detail]
        outputs.append(stage.path)
    missing = missing_inputs(stages)
    if missing:
        lines += ["", "# missing: it cannot run before these are there", *missing]
    return "\n".join(lines)


def describe_work(config: Config) -> str:
    """How much a stage does, in its own units; empty where the config does not say."""
    if isinstance(config, GrpoConfig):
        limits = config.max_tokens
        longest = limits if isinstance(limits, int) else max(limit.max_tokens for limit in limits)
        return (
            f"{config.steps:,} steps of {config.questions_per_step} questions x "
            f"{config.group_size} replies of up to {longest:,} tokens, "
            f"learning rate {config.learning_rate:g}"
        )
    if isinstance(config, LoopConfig):
        batch = f"{config.batch_size} rows"
        if config.batch_tokens is not None:
            batch = f"{config.batch_tokens:,} tokens"
        epochs = f"{config.epochs} epoch{'s' * (config.epochs > 1)}"
        length = epochs if config.steps is None else f"{config.steps:,} steps"
        return f"{length}, batches of {batch}, learning rate {config.learning_rate:g}"
    if isinstance(config, SampleConfig):
        problems = "every problem"
        if config.max_prompts is not None:
            problems = f"{config.max_prompts:,} problems at most"
        replies = f"{config.samples_per_prompt} replies of up to {config.max_tokens:,} tokens"
        return f"{problems}, {replies} each"
    if isinstance(config, PreferencesConfig):
        return f"{config.num_judgements} judgements a pair by {config.judge.server.model}"
    return ""


def _describe_model(
    config: VerbConfig, made: dict[Path, ModelConfig], outputs: Sequence[Path]
) -> str:
    path = Path(config.model)
    model = made.get(path)
    is_from_earlier = any(path.is_relative_to(output) for output in outputs)
    if model is None and is_from_earlier and not (path / "config.json").exists():
        return "memory not known before an earlier stage has made its model"
    try:
        model = model or read_model_config(config.model)
    except ValueError as error:
        return f"memory unknown: {error}"
    made[config.output / "checkpoint"] = model
    return f"{num_parameters(model):,} parameters, memory {_describe_plan(config, model)}"


def _describe_plan(config: VerbConfig, model: ModelConfig) -> str:
    """The plan, with what a bound changes.

    Prompts and texts of supervised data are not read for it, and may make sequences longer.
    """
    changes = ""
    longest = 1
    if isinstance(config, GrpoConfig):
        longest = min(config.longest_reply, model.max_position_embeddings)
    if isinstance(config, LoopConfig | GrpoConfig):
        try:
            fitted = within_bound(config, model, longest)
        except ValueError as error:
            return str(error)
        changes = describe_changes(config, fitted)
        config = fitted
    plan = describe_memory(estimate_memory(config, model, longest))
    return f"{plan}; max_memory_bytes sets {changes}" if changes else plan


def read_model_config(name: str) -> ModelConfig:
    """The config of a model by name, without its weights; raises ValueError."""
    path = resolve_model(name, config_only=True)
    if path.is_dir():
        if (path / "config.json").is_file():
            return load_model_config(path)
        files = sorted(path.glob("*.gguf"))
        if not files:
            raise ValueError(f"{path}: no config.json and no .gguf file")
        path = files[0]
    return GgufCheckpoint(path).config
