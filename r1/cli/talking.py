"""Verbs that talk to a model."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from r1.serving.conversation import ConversationSettings

MODEL_HELP = (
    "A run folder or one of its stages, a checkpoint folder, a .gguf file, "
    "a name from `r1 models`, or a hub id."
)
ModelName = Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP, show_default=False)]
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
