"""Verbs that take a config: the TOML file and key=value settings, resolved once, shown or run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from r1.config import Config

Settings = Annotated[
    list[str],
    typer.Argument(
        metavar="CONFIG.toml [KEY=VALUE]...",
        help="A TOML file, and settings that override it (or settings alone).",
        show_default=False,
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Show the resolved config, the stages and the memory; start nothing."
    ),
]


def run_verb(
    verb: str, config_class: type[Config], function: Any, settings: list[str], dry_run: bool
) -> None:
    """Resolve the config once, then show it or run it, and say what came of it."""
    from r1.config import load_config

    path, overrides = split_settings(settings)
    config = load_config(config_class, path, overrides)
    if dry_run:
        from r1.pipeline.dry_run import describe
        from r1.pipeline.stages import Stage

        name = Path(str(getattr(config, "output", verb))).name
        print(describe(config, [Stage(name, verb, config, inputs=(), evaluation=None)]))
        return
    print_result(function(config))


def split_settings(settings: list[str]) -> tuple[Path | None, list[str]]:
    """The config file, if one is given, and the overrides, in any order."""
    overrides = [text for text in settings if "=" in text]
    paths = [text for text in settings if "=" not in text]
    if len(paths) > 1:
        raise ValueError(f"one config file, not {len(paths)}: {', '.join(paths)}")
    return (Path(paths[0]).expanduser() if paths else None), overrides


def print_result(result: Any) -> None:
    """Where the result is, or the numbers that were measured."""
    if isinstance(result, Path):
        print(result)
    elif hasattr(result, "to_json"):
        for name, value in result.to_json().items():
            if value is not None and value != {}:
                print(f"{name:<24}{_round(value)}")


def _round(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return ", ".join(str(_round(item)) for item in value)
    return f"{value:.4g}" if isinstance(value, float) else value
