"""The verb that keeps benchmarks out of training data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def decontaminate(
    data: Annotated[
        list[Path],
        typer.Argument(metavar="DATA...", help="Training rows: .jsonl, .json, .csv, .parquet."),
    ],
    against: Annotated[
        list[str],
        typer.Option(
            help="A benchmark by name, NAME=FILE, or a file of rows; several with commas or again.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="A folder for the results; else beside the data."),
    ] = None,
    ngram: Annotated[int, typer.Option(min=1, help="Words in a row that make a repetition.")] = 10,
    field: Annotated[
        list[str] | None,
        typer.Option(help="A field of the rows to look at; by default every text in them."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List what would be removed; write nothing.")
    ] = False,
) -> None:
    """Remove training rows that share ten words in a row with a benchmark's questions.

    Writes DATA.clean.jsonl, and DATA.removed.jsonl with the shared words.

    [dim]r1 decontaminate sft.jsonl --against math500,aime2024
    r1 decontaminate sft.jsonl --against mytest.jsonl -o clean --dry-run[/dim]
    """
    from r1.evaluation.run_decontaminate import Options, run_decontaminate

    names = [name for names in against for name in names.split(",") if name]
    options = Options(ngram, tuple(field or ()), output, dry_run)
    for report in run_decontaminate(data, names, options):
        if report.kept_path is not None:
            print(report.kept_path)
            print(report.removed_path)
