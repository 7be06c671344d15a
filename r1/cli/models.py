"""The verb that lists, explains and fetches models."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

Words = Annotated[
    list[str] | None,
    typer.Argument(metavar="[NAME | get NAME]", help="A model to explain, or to fetch once."),
]


def models(
    words: Words = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    dtype: Annotated[
        str | None,
        typer.Option(help="float32, bfloat16, float16 or float8; left out, what suits it."),
    ] = None,
    drafts: Annotated[
        int, typer.Option(min=0, max=16, help="Tokens drafted a step by multi-token prediction.")
    ] = 0,
) -> None:
    """List the models that can be named, explain one, or get it.

    With a name: its parameters, whether it fits here at which context and batch, the
    speed that this machine's memory allows, and how to serve it.

    [dim]r1 models
    r1 models DeepSeek-R1-Distill-Qwen-7B --dtype bfloat16
    r1 models get smollm2[/dim]
    """
    if not words:
        from r1.models.catalogue_table import catalogue_table

        print(catalogue_table())
    elif len(words) == 1 and words != ["get"]:
        from r1.engine.open_model import choose_device
        from r1.serving.model_facts import describe_model, find_model

        print(describe_model(find_model(words[0]), choose_device(device), dtype, drafts))
    elif len(words) == 2 and words[0] == "get":
        print(_fetch(words[1]))
    else:
        raise ValueError(f"r1 models {' '.join(words)}: expected nothing, NAME, or: get NAME")


def _fetch(name: str) -> str:
    from r1.models.catalogue import CATALOGUE, get_smollm2, resolve_model

    if name == "smollm2":
        return str(get_smollm2(on_progress=lambda line: print(line, file=sys.stderr)))
    if name in CATALOGUE:
        raise ValueError(f"{name} comes with the package; nothing to fetch")
    return str(resolve_model(name))
