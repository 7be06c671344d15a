"""The `r1` command: one verb, one config class, one function.

Verbs import what they need when they run, so that `r1 --help` answers at once.
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from r1 import __version__

if TYPE_CHECKING:
    from r1.config import Config
    from r1.serving.conversation import ConversationSettings

USER_ERROR = 2
INTERRUPTED = 130

EPILOG = (
    "Settings are TOML, changed on the command line as key=value: group_size=8 for a key at the "
    "top, task.name=gsm8k for one inside a table. A run that was stopped continues with the "
    "same command."
)


class OneLineErrors(TyperGroup):
    """Mistakes of the user end in one line on stderr; R1_DEBUG=1 shows where they arose."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            print(f"\n{str(interrupt) or 'stopped'}", file=sys.stderr)
            if ctx.invoked_subcommand in RESUMABLE and "r1 " not in str(interrupt):
                print(f"to resume: {shlex.join(['r1', *sys.argv[1:]])}", file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            raise
        except (ValueError, OSError) as error:
            if os.environ.get("R1_DEBUG"):
                raise
            print(f"r1: error: {one_line(error)}", file=sys.stderr)
            raise typer.Exit(USER_ERROR) from None


RESUMABLE = ("run", "sft", "grpo", "reward", "sample", "evaluate")

app = typer.Typer(
    cls=OneLineErrors,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EPILOG,
)


def main() -> None:
    """The console script."""
    app()


def one_line(error: Exception) -> str:
    """An error's text for a person: several mistakes are several lines, each whole."""
    from pydantic import ValidationError

    if isinstance(error, ValidationError):
        details = error.errors(include_url=False)
        parts = [f"{'.'.join(map(str, d['loc'])) or error.title}: {d['msg']}" for d in details]
        return "; ".join(parts)
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error) or type(error).__name__


def _show_version(is_asked: bool) -> None:
    if is_asked:
        print(f"r1 {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show it.")
    ] = False,
) -> None:
    """The recipe of DeepSeek-R1: train, distil, evaluate and run reasoning models.

    [bold]r1 run recipes/quickstart.toml[/bold] does everything once, in miniature;
    [bold]r1 chat runs/quickstart[/bold] talks to the result.
    """


# ---------------------------------------------------------------- verbs that take a config

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


@app.command()
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


@app.command()
def sft(settings: Settings, dry_run: DryRun = False) -> None:
    """Supervised fine-tuning on prompts and completions, or pretraining on full text.

    [dim]r1 sft model=smollm2 data=rows.jsonl output=runs/sft learning_rate=1e-5[/dim]
    """
    from r1.training.sft import SftConfig, run_sft

    run_verb("sft", SftConfig, run_sft, settings, dry_run)


@app.command()
def grpo(settings: Settings, dry_run: DryRun = False) -> None:
    """Reinforcement learning with group-relative advantages and rule-based rewards.

    [dim]r1 grpo grpo.toml group_size=8 task.name=gsm8k output=runs/grpo[/dim]
    """
    from r1.training.grpo import GrpoConfig, run_grpo

    run_verb("grpo", GrpoConfig, run_grpo, settings, dry_run)


@app.command()
def reward(settings: Settings, dry_run: DryRun = False) -> None:
    """Train a reward model: a scalar head, from pairs or from labels.

    [dim]r1 reward kind=pairwise model=smollm2 data=pairs.jsonl output=runs/preference[/dim]
    """
    from r1.training.reward_model import RewardModelConfig, run_reward_model

    run_verb("reward", RewardModelConfig, run_reward_model, settings, dry_run)


@app.command()
def sample(settings: Settings, dry_run: DryRun = False) -> None:
    """Rejection sampling: several replies a prompt, graded, filtered, kept as SFT data.

    [dim]r1 sample model=runs/zero/checkpoint task.name=gsm8k output=runs/kept[/dim]
    """
    from r1.training.rejection_sampling import SampleConfig, run_sample

    run_verb("sample", SampleConfig, run_sample, settings, dry_run)


@app.command()
def evaluate(settings: Settings, dry_run: DryRun = False) -> None:
    """Measure pass@1, pass@k and cons@k on a task, with both error bars.

    [dim]r1 evaluate model=tiny task.name=miniature num_samples=8 output=runs/eval[/dim]
    """
    from r1.evaluation.run_evaluate import EvaluateConfig, run_evaluate

    run_verb("evaluate", EvaluateConfig, run_evaluate, settings, dry_run)


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


# ---------------------------------------------------------------- verbs that take a model

ModelName = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A run folder or one of its stages, a checkpoint folder, a .gguf file, "
        "a name from `r1 models`, or a hub id.",
        show_default=False,
    ),
]
Temperature = Annotated[float, typer.Option(min=0, help="0 is greedy.")]
TopP = Annotated[float, typer.Option(help="Keep the most likely tokens up to this probability.")]
MaxTokens = Annotated[int, typer.Option(min=1, help="Longest reply, thought included.")]
Seed = Annotated[int | None, typer.Option(help="Repeat a reply; left out, each is new.")]
Style = Annotated[
    str | None,
    typer.Option(help="chat, r1_zero or plain; left out, the one that the model was trained with."),
]
System = Annotated[str, typer.Option(help="A system prompt; R1 advises to use none.")]
Think = Annotated[
    bool | None,
    typer.Option(
        "--think/--no-think",
        help="Force an opening <think>, or leave it out; by default as the model's template.",
        show_default=False,
    ),
]


@app.command()
def chat(
    model: ModelName,
    temperature: Temperature = 0.6,
    top_p: TopP = 0.95,
    max_tokens: MaxTokens = 2048,
    seed: Seed = None,
    style: Style = None,
    system: System = "",
    think: Think = None,
) -> None:
    """Talk to a model; its thoughts are dimmed. A pipe's first line is answered once.

    [dim]r1 chat runs/quickstart
    echo "What is 17 + 25?" | r1 chat runs/quickstart/stages/r1_zero
    r1 models get smollm2 && r1 chat smollm2[/dim]
    """
    from r1.serving import terminal_chat

    options = (temperature, top_p, max_tokens)
    terminal_chat.chat(model, conversation_settings(options, seed, style, system, think))


@app.command()
def generate(
    model: ModelName,
    prompt: Annotated[
        str | None, typer.Argument(help="The question; left out, standard input's first line.")
    ] = None,
    num_samples: Annotated[int, typer.Option(min=1, help="Replies to the same question.")] = 1,
    temperature: Temperature = 0.6,
    top_p: TopP = 0.95,
    max_tokens: MaxTokens = 2048,
    seed: Seed = None,
    style: Style = None,
    system: System = "",
    think: Think = None,
) -> None:
    """Answer one question and end.

    [dim]r1 generate runs/quickstart "What is 17 + 25?" --num-samples 4
    r1 generate tiny "17 + 25 =" --style plain --temperature 0[/dim]
    """
    from r1.serving import terminal_chat

    options = (temperature, top_p, max_tokens)
    settings = conversation_settings(options, seed, style, system, think)
    question = terminal_chat.read_question() if prompt is None else prompt
    terminal_chat.generate(model, question, settings, num_samples)


def conversation_settings(
    sampling: tuple[float, float, int],
    seed: int | None,
    style: str | None,
    system: str,
    think: bool | None,
) -> ConversationSettings:
    """The options as settings; raises ValueError for a value that is out of range."""
    from typing import cast, get_args

    from r1.records import SamplingParams
    from r1.serving.conversation import ConversationSettings
    from r1.text.prompts import PromptStyle

    if style is not None and style not in get_args(PromptStyle):
        raise ValueError(f"--style {style}: choose from {', '.join(get_args(PromptStyle))}")
    temperature, top_p, max_tokens = sampling
    return ConversationSettings(
        sampling=SamplingParams(temperature=temperature, top_p=top_p, max_tokens=max_tokens),
        prompt_style=cast("PromptStyle | None", style),
        system=system,
        force_think=think,
        seed=int.from_bytes(os.urandom(4), "big") if seed is None else seed,
    )


# ---------------------------------------------------------------- models and reports


@app.command()
def models(
    get: Annotated[
        list[str] | None,
        typer.Argument(metavar="[get NAME]", help="Fetch a model once, its checksum verified."),
    ] = None,
) -> None:
    """List the models that can be named, or get one of them.

    [dim]r1 models
    r1 models get smollm2[/dim]
    """
    from r1.models.catalogue import CATALOGUE, get_smollm2
    from r1.models.catalogue_table import catalogue_table

    if not get:
        print(catalogue_table())
    elif get == ["get", "smollm2"]:
        print(get_smollm2(on_progress=lambda line: print(line, file=sys.stderr)))
    elif len(get) == 2 and get[0] == "get" and get[1] in CATALOGUE:
        raise ValueError(f"{get[1]} comes with the package; only smollm2 is fetched")
    else:
        raise ValueError(f"r1 models {' '.join(get)}: expected nothing, or: get smollm2")


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, finished or not.")],
) -> None:
    """Write a run's report again: report.html, report.json and the plots.

    [dim]r1 report runs/quickstart[/dim]
    """
    from r1.evaluation.report import build_report

    result = build_report(folder.expanduser())
    for note in result.notes:
        print(note, file=sys.stderr)
    print(result.html_path)
    print(result.json_path)
