"""Which checkpoint a name means: a model, or the result of a run."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from r1.models.catalogue import resolve_model
from r1.text.prompts import PromptStyle

_MAIN_STAGE = "r1"


@dataclass(frozen=True, slots=True)
class ChosenModel:
    """A checkpoint, and the prompt that its last training used (None: not known)."""

    path: Path
    prompt_style: PromptStyle | None = None


def choose_model(name: str) -> ChosenModel:
    """Find the checkpoint of a run folder, of one of its stages, or of a named model.

    `runs/quickstart` is the stage that its run.json names as `final`, else the stage
    `r1`, else the last that made a language model. Anything else goes to
    `resolve_model`. Raises ValueError when nothing is found.
    """
    folder = Path(name).expanduser()
    if (folder / "checkpoint").is_dir():
        return _of_stage(folder)
    if not ((folder / "stages").is_dir() or (folder / "run.json").is_file()):
        return ChosenModel(resolve_model(name))
    run = _read_object(folder / "run.json")
    stages = {
        stage.name: stage
        for stage in _in_order(folder / "stages", run.get("stages") or ())
        if _is_language_model(stage / "checkpoint")
    }
    if not stages:
        raise ValueError(f"{folder}: no stage has a checkpoint yet; run its recipe first")
    named = [stage for stage in (run.get("final"), _MAIN_STAGE) if stage in stages]
    return _of_stage(stages[named[0]] if named else list(stages.values())[-1])


def _of_stage(stage: Path) -> ChosenModel:
    config = _read_object(stage / "config.json")
    style = config.get("prompt_style", config.get("style"))
    return ChosenModel(stage / "checkpoint", style if style in get_args(PromptStyle) else None)


def _in_order(folder: Path, listed: Iterable[Any]) -> list[Path]:
    """The stages as run.json lists them, then what it does not know, by age."""
    names = [entry.get("name") if isinstance(entry, dict) else entry for entry in listed]
    found = [path for path in folder.iterdir() if (path / "checkpoint").is_dir()]

    def place(stage: Path) -> tuple[int, float]:
        rank = names.index(stage.name) if stage.name in names else len(names)
        return rank, (stage / "checkpoint").stat().st_mtime

    return sorted(found, key=place)


def _is_language_model(checkpoint: Path) -> bool:
    architectures = _read_object(checkpoint / "config.json").get("architectures") or [""]
    return str(architectures[0]).endswith("ForCausalLM")


def _read_object(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON: {error}") from None
    return value if isinstance(value, dict) else {}
