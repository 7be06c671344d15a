"""What a stage reads from outside its recipe: models, data files, tasks.

One list serves three uses: what is missing is told before the first stage starts, a
dry run lists it, and a file that changed makes its stage run again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from r1.config import config_fingerprint
from r1.models.catalogue import resolve_model
from r1.pipeline.stages import Stage
from r1.tasks.row_files import file_kind
from r1.tasks.task import Split, TaskConfig, build_task, preflight

_MODEL_KEYS = ("model", "reference", "rewrite_model")
_FILE_KEYS = ("data", "eval_data", "general_data", "test_data")
_TASK_PATH_KEYS = ("path", "train_path", "test_path")


@dataclass(frozen=True, slots=True)
class Input:
    """One name or path, and the config key that it stands at."""

    key: str
    value: str
    kind: Literal["model", "file", "data set"]

    def resolve(self, *, config_only: bool = False) -> Path:
        """The file or folder; ValueError when it is not there.

        `config_only`: of a model on the hub, fetch only its config.json.
        """
        if self.kind == "model":
            return resolve_model(self.value, config_only=config_only)
        path = Path(self.value).expanduser()
        if not (path.is_file() or (self.kind == "data set" and path.is_dir())):
            raise ValueError(f"{self.key}: no such file: {self.value}")
        return path


def find_inputs(config: Any) -> Iterator[Input]:
    """Every model and file that a stage's config names; data sets on the hub left out."""
    for key in _MODEL_KEYS:
        name = getattr(config, key, None)
        if name is not None:
            yield Input(key, name, "model")
    for part, name in getattr(config, "reward_models", {}).items():
        yield Input(f"reward_models.{part}", name, "model")
    for key in _FILE_KEYS:
        value = getattr(config, key, None)
        for path in value if isinstance(value, tuple) else (value,):
            if path is not None:
                yield Input(key, str(path), "file")
    for prefix, task, _ in _tasks(config):
        for key in _TASK_PATH_KEYS:
            path = getattr(task, key)
            if path is not None and _is_local(path):
                yield Input(f"{prefix}.{key}", path, "data set")


def outside_inputs(config: Any, made: Sequence[Path]) -> Iterator[Input]:
    """The inputs of a config that do not lie in the folders `made`."""
    for found in find_inputs(config):
        if not any(Path(found.value).is_relative_to(folder) for folder in made):
            yield found


def missing_inputs(stages: Sequence[Stage]) -> list[str]:
    """One line for each model and file that is not there, with the stages that need it.

    Downloads at most a model's config.json, and opens no task.
    """
    made = [stage.path for stage in stages]
    needed_by: dict[str, list[str]] = {}
    problems: dict[str, str] = {}
    for stage, config in _configs(stages):
        for found in outside_inputs(config, made):
            names = needed_by.setdefault(found.value, [])
            if not names:
                try:
                    found.resolve(config_only=True)
                except ValueError as error:
                    problems[found.value] = str(error)
            names += [stage.name] if stage.name not in names else []
    return [f"{line} (for {', '.join(needed_by[value])})" for value, line in problems.items()]


def check_inputs(stages: Sequence[Stage], source: Path) -> None:
    """Find what would stop a later stage now: missing models and files, unusable tasks.

    Raises ValueError (TaskError for a task) with the recipe, `source`, and the stage.
    """
    checked: set[str] = set()
    for stage, config in _configs(stages):
        try:
            for found in outside_inputs(config, [stage.path.parent]):
                found.resolve()
            for _, task, splits in _tasks(config):
                key = f"{config_fingerprint(task)} {splits}"
                if key not in checked:
                    preflight(build_task(task), splits)
                checked.add(key)
        except ValueError as error:
            raise type(error)(f"{source}: stages.{stage.name}: {error}") from None


def _configs(stages: Sequence[Stage]) -> Iterator[tuple[Stage, Any]]:
    """Each stage with its config, and with that of its measurement."""
    for stage in stages:
        yield stage, stage.config
        if stage.evaluation is not None:
            yield stage, stage.evaluation


def file_states(found: Input) -> list[str]:
    """Size and time of the files behind an input."""
    path = found.resolve()
    files = sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]
    return [f"{file.name} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in files]


def _tasks(config: Any) -> Iterator[tuple[str, TaskConfig, tuple[Split, ...]]]:
    task = getattr(config, "task", None)
    if task is not None:
        yield "task", task, (getattr(config, "split", "train"),)
    for index, share in enumerate(getattr(config, "tasks", ())):
        yield f"tasks.{index}.task", share.task, ("train",)


def _is_local(path: str) -> bool:
    """Whether a task's path is a file's or a folder's, not the id of a data set on the hub."""
    is_named_as_file = file_kind(Path(path)) is not None or path.startswith(("/", ".", "~"))
    return is_named_as_file or Path(path).expanduser().exists()
