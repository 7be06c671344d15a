"""The verb that judges answer pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def grade(
    pairs: Annotated[
        Path,
        typer.Argument(
            metavar="PAIRS.jsonl",
            help="Rows with `gold` and `pred`, and optionally `question` and `label`.",
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    order_free: Annotated[
        bool, typer.Option("--order-free", help="Tuples and lists are right in any order.")
    ] = False,
    num_workers: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 2,
    timeout: Annotated[
        float, typer.Option(min=0.1, help="Seconds of CPU time for one comparison.")
    ] = 5.0,
) -> None:
    """Judge answers against golds, each with its reason; measure the judge where labels are given.

    [dim]r1 grade pairs.jsonl --json[/dim]
    """
    from r1.evaluation.grade_pairs import run_grade

    run_grade(
        pairs,
        as_json=as_json,
        order_free=order_free,
        num_workers=num_workers,
        timeout_seconds=timeout,
    )
