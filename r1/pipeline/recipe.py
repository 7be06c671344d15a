"""A recipe: stages in order, each one verb with its settings, and how models are measured.

```toml
name = "tiny"
output = "runs/tiny"

[evaluate]                  # for every stage that trains a language model
task.name = "miniature"

[stages.r1_zero]
verb = "grpo"
model = "tiny"
task.name = "miniature"

[stages.cold_start]
verb = "sft"
model = "@r1_zero"          # the result of an earlier stage
evaluate.prompt_style = "chat"
```
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from r1.config import Config, ConfigError, load_config, nearest_name, parse_config
from r1.evaluation.claims import Claim, find_claims
from r1.evaluation.run_evaluate import EvaluateConfig
from r1.pipeline.stages import STAGE_KINDS, Stage

_PIPELINE_KEYS = ("verb", "evaluate")


class Recipe(Config):
    """The file as it is written; `plan_recipe` resolves its stages.

    `seed` and `num_threads` hold for every stage that does not set its own. `final`
    names the stage that `r1 chat <run folder>` talks to. `claims` are checked in the
    report: names of its table, or claims in full.
    """

    name: str
    output: Path
    description: str = ""
    seed: int = Field(default=0, ge=0)
    num_threads: int | None = Field(default=None, ge=1)
    """Of the CPU; None leaves torch's choice. Bits can differ between numbers of threads."""
    final: str | None = None
    claims: tuple[str | dict[str, Any], ...] = ()
    evaluate: dict[str, Any] = Field(default_factory=dict)
    stages: dict[str, dict[str, Any]] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> Recipe:
        find_claims(list(self.claims))
        if self.final is not None and self.final not in self.stages:
            raise ValueError(f"final names no stage: {self.final!r}{_nearest(self.final, self)}")
        return self

    def find_claims(self) -> tuple[Claim, ...]:
        return find_claims(list(self.claims))


@dataclass(frozen=True, slots=True)
class Plan:
    """A recipe with every stage resolved and checked; nothing has run yet."""

    path: Path
    config: Recipe
    stages: tuple[Stage, ...]


def plan_recipe(path: Path, overrides: Sequence[str] = ()) -> Plan:
    """Read a recipe and resolve its stages.

    Raises ConfigError with one line for each mistake: the stage, the key, what is wrong
    and the nearest valid name.
    """
    recipe = load_config(Recipe, path, overrides)
    stages: list[Stage] = []
    for name in recipe.stages:
        stages.append(_resolve(name, recipe, path, {stage.name: stage for stage in stages}))
    return Plan(path, recipe, tuple(stages))


def _resolve(name: str, recipe: Recipe, path: Path, earlier: Mapping[str, Stage]) -> Stage:
    source = f"{path}: stages.{name}"
    if not name.replace("_", "").replace("-", "").isalnum():
        raise ConfigError(f"{source}: a stage is named in letters, digits, _ and -")
    table = dict(recipe.stages[name])
    verb = str(table.get("verb", ""))
    if verb not in STAGE_KINDS:
        near = nearest_name(verb, STAGE_KINDS)
        hint = f"did you mean {near!r}? " if near else ""
        known = ", ".join(STAGE_KINDS)
        raise ConfigError(f"{source}: verb is {verb!r}; {hint}known: {known}")
    kind = STAGE_KINDS[verb]
    settings = {key: value for key, value in table.items() if key not in _PIPELINE_KEYS}
    inputs = tuple(dict.fromkeys(_references(settings)))
    for reference in inputs:
        if reference not in earlier:
            raise ConfigError(
                f"{source}: @{reference} is no earlier stage{_nearest(reference, recipe)}"
            )
    settings = _replace_references(settings, earlier)
    folder = recipe.output / "stages" / name
    # A stage that is measured only takes the recipe's way of measuring, its own keys first.
    if verb == "evaluate":
        settings = _merge(recipe.evaluate, settings)
    shared = {"output": str(folder), "seed": recipe.seed}
    config = parse_config(kind.config_class, {**shared, **settings}, source)
    evaluation = None
    if kind.makes_language_model and recipe.evaluate and table.get("evaluate", True) is not False:
        own = table.get("evaluate", {})
        settings = _merge(recipe.evaluate, own if isinstance(own, dict) else {})
        model = str(folder / kind.result)
        shared = {"output": str(folder / "evaluation"), "seed": recipe.seed, "model": model}
        evaluation = parse_config(EvaluateConfig, {**shared, **settings}, f"{source}.evaluate")
    return Stage(name, verb, config, inputs, evaluation)


def _references(value: Any) -> Iterator[str]:
    """Names of the stages that the settings point to, in order."""
    if isinstance(value, str) and value.startswith("@"):
        yield value[1:].partition("/")[0]
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _references(item)
    elif isinstance(value, list):
        for item in value:
            yield from _references(item)


def _replace_references(value: Any, earlier: Mapping[str, Stage]) -> Any:
    """`@name` becomes that stage's result, `@name/file` a file in it."""
    if isinstance(value, str) and value.startswith("@"):
        name, _, rest = value[1:].partition("/")
        stage = earlier[name]
        return str(stage.path / STAGE_KINDS[stage.kind].result / rest)
    if isinstance(value, Mapping):
        return {key: _replace_references(item, earlier) for key, item in value.items()}
    if isinstance(value, list):
        return [_replace_references(item, earlier) for item in value]
    return value


def _merge(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(lower)
    for key, value in upper.items():
        below = merged.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            value = _merge(below, value)
        merged[key] = value
    return merged


def _nearest(name: str, recipe: Recipe) -> str:
    near = nearest_name(name, recipe.stages)
    return f"; did you mean {near!r}?" if near else f"; stages: {', '.join(recipe.stages)}"
