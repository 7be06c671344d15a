"""The catalogue as `r1 models` prints it."""

from __future__ import annotations

import json

from r1.models.catalogue import CATALOGUE, CatalogueEntry, resolve_model
from r1.models.model_config import ModelConfig
from r1.models.parameter_count import num_parameters


def catalogue_table() -> str:
    """Every named model: its size, its licence, whether it is here, and what it is."""
    rows = [f"{'name':<14}{'parameters':>12}  {'licence':<12}{'here':<6}what it is"]
    for name, entry in CATALOGUE.items():
        is_here, count = _look_up(name, entry)
        shown = "" if count is None else f"{count:,}"
        here = "yes" if is_here else "no"
        rows.append(f"{name:<14}{shown:>12}  {entry.license:<12}{here:<6}{entry.description}")
    rows.append("also: a checkpoint folder, a .gguf file, a hub id; to chat with, a run folder")
    return "\n".join(rows)


def _look_up(name: str, entry: CatalogueEntry) -> tuple[bool, int | None]:
    try:
        path = resolve_model(name)
    except ValueError:
        return False, entry.num_parameters
    if entry.num_parameters is not None or not (path / "config.json").is_file():
        return True, entry.num_parameters
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    return True, num_parameters(ModelConfig.from_dict(config, str(path)))
