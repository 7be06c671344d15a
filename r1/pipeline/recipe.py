"""A recipe: stages in order, each one verb with its settings, and how models are measured.

```toml
name = "tiny"
output = "runs/tiny"

[inputs]                    # names for what is used in several places
base = "tiny"

[evaluate]                  # for every stage that trains a language model
task.name = "miniature"

[stages.r1_zero]
verb = "grpo"
model = "@base"
task.name = "miniature"

[stages.cold_start]
verb = "sft"
enabled = true              # false leaves it out
model = "@r1_zero"          # the result of an earlier stage
evaluate.prompt_style = "chat"
```
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from r1.config import Config, ConfigError, load_config, merge_tables, parse_config
from r1.config_errors import nearest_name
from r1.evaluation.run_evaluate import EvaluateConfig
from r1.evaluation.run_report.claims import Claim, find_claims
from r1.pipeline.stages import STAGE_KINDS, Stage, StageKind

_PIPELINE_KEYS = ("verb", "evaluate", "enabled")


class Recipe(Config):
    """The file as it is written; `plan_recipe` resolves its stages.

    `inputs` names models and data that stages use as `@name`, so that one override,
    `inputs.base=/models/x`, changes them everywhere.
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
    inputs: dict[str, str] = Field(default_factory=dict)
    evaluate: dict[str, Any] = Field(default_factory=dict)
    stages: dict[str, dict[str, Any]] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> Recipe:
        find_claims(list(self.claims))
        if self.final is not None and self.final not in self.stages:
            near = _nearest(self.final, self.stages)
            raise ValueError(f"final names no stage: {self.final!r}{near}")
        twice = sorted(self.inputs.keys() & self.stages.keys())
        if twice:
            raise ValueError(f"@{twice[0]} would be both an input and a stage; rename one")
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
    stages: dict[str, Stage] = {}
    for name, table in recipe.stages.items():
        if _is_enabled(table, f"{path}: stages.{name}"):
            stages[name] = _resolve(name, recipe, path, stages)
    if recipe.final is not None and recipe.final not in stages:
        raise ConfigError(f"{path}: final names a stage that is not enabled: {recipe.final!r}")
    return Plan(path, recipe, tuple(stages.values()))


def _is_enabled(table: Mapping[str, Any], source: str) -> bool:
    enabled = table.get("enabled", True)
    if not isinstance(enabled, bool):
        raise ConfigError(f"{source}.enabled: expected true or false, got {enabled!r}")
    return enabled


def _resolve(name: str, recipe: Recipe, path: Path, earlier: Mapping[str, Stage]) -> Stage:
    source = f"{path}: stages.{name}"
    if not name.replace("_", "").replace("-", "").isalnum():
        raise ConfigError(f"{source}: a stage is named in letters, digits, _ and -")
    table = recipe.stages[name]
    kind = _kind(table, source, recipe)
    settings, measurement = _settings(table, kind, recipe)
    settings, measurement = _replace_references([settings, measurement], recipe.inputs)
    references = tuple(dict.fromkeys(_references([settings, measurement])))
    for reference in references:
        if reference not in earlier:
            raise ConfigError(f"{source}: @{reference} {_what_is_wrong(reference, recipe)}")
    results = {
        key: str(stage.path / STAGE_KINDS[stage.kind].result) for key, stage in earlier.items()
    }
    settings, measurement = _replace_references([settings, measurement], results)
    folder = recipe.output / "stages" / name
    shared = {"output": str(folder), "seed": recipe.seed}
    config = parse_config(kind.config_class, {**shared, **settings}, source)
    evaluation = None
    if measurement is not None:
        shared |= {"output": str(folder / "evaluation"), "model": str(folder / kind.result)}
        evaluation = parse_config(EvaluateConfig, {**shared, **measurement}, f"{source}.evaluate")
    return Stage(name, table["verb"], config, references, evaluation)


def _kind(table: Mapping[str, Any], source: str, recipe: Recipe) -> StageKind:
    if "verb" not in table:
        # An override of a misspelt stage makes a new table.
        name = source.rpartition(".")[2]
        near = nearest_name(name, [key for key, other in recipe.stages.items() if "verb" in other])
        hint = f"did you mean stages.{near}?" if near else f"choose from {', '.join(STAGE_KINDS)}"
        raise ConfigError(f"{source}: the stage has no verb; {hint}")
    verb = str(table["verb"])
    if verb not in STAGE_KINDS:
        near = nearest_name(verb, STAGE_KINDS)
        hint = f"did you mean {near!r}? " if near else ""
        known = ", ".join(STAGE_KINDS)
        raise ConfigError(f"{source}: verb is {verb!r}; {hint}known: {known}")
    if "output" in table:
        raise ConfigError(f"{source}.output: a stage's folder follows from the recipe's output")
    return STAGE_KINDS[verb]


def _settings(
    table: Mapping[str, Any], kind: StageKind, recipe: Recipe
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The settings of a stage, and of its model's measurement where it has one."""
    settings = {key: value for key, value in table.items() if key not in _PIPELINE_KEYS}
    # A stage that only measures takes the recipe's way of measuring, its own keys first.
    if kind.config_class is EvaluateConfig:
        return merge_tables(recipe.evaluate, settings), None
    own = table.get("evaluate", True)
    if not kind.makes_language_model or not recipe.evaluate or own is False:
        return settings, None
    return settings, merge_tables(recipe.evaluate, own if isinstance(own, dict) else {})


def _what_is_wrong(reference: str, recipe: Recipe) -> str:
    if reference in recipe.stages:
        is_enabled = recipe.stages[reference].get("enabled", True)
        return "comes later" if is_enabled else "is not enabled"
    return f"is no input and no stage{_nearest(reference, [*recipe.inputs, *recipe.stages])}"


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


def _replace_references(value: Any, places: Mapping[str, str]) -> Any:
    """`@name` becomes the place that it names, `@name/file` a file in it; others stay."""
    if isinstance(value, str) and value.startswith("@"):
        name, _, rest = value[1:].partition("/")
        if name not in places:
            return value
        return str(Path(places[name]) / rest) if rest else places[name]
    if isinstance(value, Mapping):
        return {key: _replace_references(item, places) for key, item in value.items()}
    if isinstance(value, list):
        return [_replace_references(item, places) for item in value]
    return value


def _nearest(name: str, known: Collection[str]) -> str:
    near = nearest_name(name, known)
    return f"; did you mean {near!r}?" if near else f"; known: {', '.join(known)}"
