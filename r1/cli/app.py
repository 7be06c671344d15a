"""The `r1` command: the table of its verbs.

Verbs import what they need when they run, so that `r1 --help` answers at once.
"""

from __future__ import annotations

from typing import Annotated

import typer

from r1 import __version__
from r1.allocator import keep_freed_memory
from r1.cli import decontaminate, evaluation, grade, models, predictions, serving, talking, training
from r1.cli.errors import OneLineErrors

EPILOG = (
    "Settings are TOML, changed on the command line as key=value: group_size=8 for a key at the "
    "top, task.name=gsm8k for one inside a table. A run that was stopped continues with the "
    "same command."
)

# In the order of `r1 --help`.
VERBS = (
    training.run,
    training.sft,
    training.grpo,
    training.reward,
    training.sample,
    training.preferences,
    decontaminate.decontaminate,
    evaluation.evaluate,
    grade.grade,
    predictions.predictions,
    talking.chat,
    talking.generate,
    serving.serve,
    models.models,
    evaluation.report,
)


def main() -> None:
    """The console script."""
    keep_freed_memory()
    app()


def _show_version(is_asked: bool) -> None:
    if is_asked:
        print(f"r1 {__version__}")
        raise typer.Exit


def root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show it."),
    ] = False,
) -> None:
    """The recipe of DeepSeek-R1: train, distil, evaluate and run reasoning models.

    [bold]r1 run recipes/quickstart.toml[/bold] does everything once, in miniature;
    [bold]r1 chat runs/quickstart[/bold] talks to the result.
    """


def _build_app() -> typer.Typer:
    app = typer.Typer(
        cls=OneLineErrors,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
        epilog=EPILOG,
    )
    app.callback()(root)
    for verb in VERBS:
        app.command()(verb)
    return app


app = _build_app()
