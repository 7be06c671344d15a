"""The verb that lists and fetches models."""

from __future__ import annotations

import sys
from typing import Annotated

import typer


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
