"""`--dry-run`: the resolved config, the stages, and the memory that they will take."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from r1.config import Config, dump_config
from r1.models.catalogue import resolve_model
from r1.models.gguf_checkpoint import GgufCheckpoint
from r1.models.hf_checkpoint import load_config as load_model_config
from r1.models.model_config import ModelConfig
from r1.models.parameter_count import num_parameters
from r1.training.memory import VerbConfig, describe_memory, estimate_memory

StagePlan = tuple[str, str, Any]
"""A stage's name, the verb that runs it, and that verb's config."""


def describe(config: Config, stages: Sequence[StagePlan]) -> str:
    """The text of a dry run; starts nothing and loads no weights.

    A stage whose model an earlier stage makes has the sizes of that stage's model.
    """
    lines = ["# resolved config", dump_config(config), "# stages"]
    made: dict[Path, ModelConfig] = {}
    outputs: list[Path] = []
    for number, (name, verb, stage) in enumerate(stages, start=1):
        model_name = getattr(stage, "model", None)
        source = "" if model_name is None else f"{model_name} -> "
        lines.append(f"{number:>2}. {name}: {verb}, {source}{stage.output}")
        if isinstance(stage, VerbConfig):
            lines.append(f"    {_describe_model(stage, made, outputs)}")
        outputs.append(stage.output)
    return "\n".join(lines)


def _describe_model(
    stage: VerbConfig, made: dict[Path, ModelConfig], outputs: Sequence[Path]
) -> str:
    path = Path(stage.model)
    model = made.get(path)
    is_from_earlier = any(path.is_relative_to(output) for output in outputs)
    if model is None and is_from_earlier and not (path / "config.json").exists():
        return "memory not known before an earlier stage has made its model"
    try:
        model = model or read_model_config(stage.model)
    except ValueError as error:
        return f"memory unknown: {error}"
    made[stage.output / "checkpoint"] = model
    memory = describe_memory(estimate_memory(stage, model))
    return f"{num_parameters(model):,} parameters, memory {memory}"


def read_model_config(name: str) -> ModelConfig:
    """The config of a model by name, without its weights; raises ValueError."""
    path = resolve_model(name)
    if path.is_dir():
        if (path / "config.json").is_file():
            return load_model_config(path)
        files = sorted(path.glob("*.gguf"))
        if not files:
            raise ValueError(f"{path}: no config.json and no .gguf file")
        path = files[0]
    return GgufCheckpoint(path).config
