"""The verb that hands patches to SWE-bench's own harness."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def predictions(
    records: Annotated[
        Path, typer.Argument(metavar="RECORDS", help="records.jsonl of a SWE-bench row.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="The file to write.")] = Path(
        "predictions.jsonl"
    ),
    model: Annotated[str, typer.Option(help="What the harness calls the model.")] = "r1",
) -> None:
    """Write the patches of a SWE-bench row for the official harness, one by majority each.

    [dim]r1 predictions runs/swe/records.jsonl -o predictions.jsonl --model deepseek-r1[/dim]
    """
    from r1.evaluation.row_metrics.swebench_predictions import write_predictions

    num_instances, num_patches = write_predictions(records, output, model)
    print(f"{output}: {num_instances} instances, {num_patches} with a patch")
