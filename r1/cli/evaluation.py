"""Verbs that measure."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from r1.cli.evaluation_request import (
    Actions,
    EvaluationOptions,
    JudgeOptions,
    ServerOptions,
    perform,
)
from r1.cli.settings import DryRun, run_verb

Arguments = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[MODEL] [ROW]... [KEY=VALUE]...",
        help="A model and rows of the table (all that can be measured, without a row), or a "
        "TOML file, and settings that override it.",
        show_default=False,
    ),
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="Where results go; runs/evaluate/MODEL without it."),
]
ShowList = Annotated[
    bool, typer.Option("--list", help="Show the table: what is here, and how to get the rest.")
]
Responses = Annotated[
    Path | None,
    typer.Option(help="Score replies from elsewhere: a file with id or prompt, and response."),
]
Regrade = Annotated[bool, typer.Option("--regrade", help="Grade a folder's stored replies again.")]
Compare = Annotated[
    bool, typer.Option("--compare", help="Compare two folders question by question.")
]
Merge = Annotated[
    bool, typer.Option("--merge", help="Join the samples of several folders into --output.")
]
BaseUrl = Annotated[
    str | None, typer.Option(help="An OpenAI-compatible server, http://localhost:8000/v1.")
]
ModelName = Annotated[
    str | None, typer.Option(help="The model's name on the server, if not MODEL.")
]
KeyVariable = Annotated[
    str | None, typer.Option(help="The environment variable that holds the server's key.")
]
Endpoint = Annotated[Literal["chat", "completions"], typer.Option(help="Of the server.")]
JudgeModel = Annotated[
    str | None, typer.Option(help="The model that judges the rows that need it.")
]
JudgeUrl = Annotated[str | None, typer.Option(help="The judge's server; --base-url without it.")]
JudgeKeyVariable = Annotated[
    str | None, typer.Option(help="The environment variable that holds the judge's key.")
]
Data = Annotated[Path | None, typer.Option(help="Your folder of benchmark data, one folder a row.")]


def evaluate(
    arguments: Arguments = None,
    dry_run: DryRun = False,
    output: Output = None,
    show_list: ShowList = False,
    responses: Responses = None,
    regrade: Regrade = False,
    compare: Compare = False,
    merge: Merge = False,
    base_url: BaseUrl = None,
    model_name: ModelName = None,
    api_key_env: KeyVariable = None,
    endpoint: Endpoint = "chat",
    judge: JudgeModel = None,
    judge_url: JudgeUrl = None,
    judge_key_env: JudgeKeyVariable = None,
    data: Data = None,
) -> None:
    """Measure a model on the benchmark table by the published protocol, with both error bars.

    [dim]r1 evaluate runs/quickstart gsm8k math500 num_samples=4
    r1 evaluate tiny miniature num_problems=50 sampling.max_tokens=256
    r1 evaluate deepseek-reasoner aime2024 --base-url https://api.deepseek.com --api-key-env KEY
    r1 evaluate math500 --responses replies.jsonl
    r1 evaluate --compare runs/evaluate/a runs/evaluate/b
    r1 evaluate model=tiny task.name=miniature num_samples=8 output=runs/eval[/dim]
    """
    given = arguments or []
    if _is_config(given) and not (show_list or responses or regrade or compare or merge):
        from r1.evaluation.run_evaluate import EvaluateConfig, run_evaluate

        run_verb("evaluate", EvaluateConfig, run_evaluate, given, dry_run)
        return
    actions = Actions(dry_run, show_list, responses, regrade, compare, merge)
    server = ServerOptions(base_url, model_name, api_key_env, endpoint)
    judging = JudgeOptions(judge, judge_url, judge_key_env)
    perform(given, EvaluationOptions(actions, server, judging, output, data))


def _is_config(arguments: list[str]) -> bool:
    """Whether it is one task by its config: a TOML file, or settings that name the task."""
    places = [text for text in arguments if "=" not in text]
    if any(place.endswith((".toml", ".json")) for place in places):
        return True
    return not places and any(text.startswith("task.name=") for text in arguments)


def report(
    folder: Annotated[
        Path, typer.Argument(metavar="RUN", help="A folder of a run or an evaluation.")
    ],
) -> None:
    """Write the report of a run or an evaluation again, from what its folder holds.

    [dim]r1 report runs/quickstart
    r1 report runs/evaluate/MODEL[/dim]
    """
    from r1.evaluation.run_report.report import build_report
    from r1.evaluation.table.report import is_evaluation_folder, write_outputs

    folder = folder.expanduser()
    if is_evaluation_folder(folder):
        for path in write_outputs(folder):
            print(path)
        return
    result = build_report(folder)
    for note in result.notes:
        print(note, file=sys.stderr)
    print(result.html_path)
    print(result.json_path)
