"""What `r1 evaluate` was asked to do: which model, which rows, from where, and where to."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from r1.backends.openai_http_client import ServerConfig
    from r1.tasks.judged.judged import Judge

# Nearer than this to a row's name, a word was meant as one.
_NEAR = 0.75
_ACTIONS = ("show_list", "responses", "regrade", "compare", "merge")
# Settings that are no row's.
_ELSEWHERE = ("model=", "output=", "server.", "judge.")
_DEFAULT_FOLDER = Path("runs/evaluate")


@dataclass(frozen=True, slots=True)
class Actions:
    """What to do instead of measuring a model; the options' help says what they mean."""

    dry_run: bool
    show_list: bool
    responses: Path | None
    regrade: bool
    compare: bool
    merge: bool


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """The server that answers in place of the engine; without a URL there is none."""

    base_url: str | None
    model_name: str | None
    api_key_env: str | None
    endpoint: Literal["chat", "completions"]


@dataclass(frozen=True, slots=True)
class JudgeOptions:
    """The model that judges, and its server where it is not the model's own."""

    model: str | None
    url: str | None
    key_env: str | None


@dataclass(frozen=True, slots=True)
class EvaluationOptions:
    """All options of the verb."""

    actions: Actions
    server: ServerOptions
    judge: JudgeOptions
    output: Path | None
    data: Path | None


@dataclass(frozen=True, slots=True)
class Words:
    """The arguments by what they are; `server.x=1` and `judge.x=1` are settings of theirs."""

    model: str | None
    rows: Sequence[str]
    overrides: Sequence[str]
    output: Path | None
    server: Sequence[str]
    judge: Sequence[str]


def perform(arguments: Sequence[str], options: EvaluationOptions) -> None:
    """Do what was asked and print what came of it; raises ValueError of one line."""
    from r1.tasks.benchmark_data import DATA_VARIABLE

    if options.data is not None:
        if not options.data.expanduser().is_dir():
            raise ValueError(f"--data {options.data}: no such folder")
        os.environ[DATA_VARIABLE] = str(options.data.expanduser())
    _refuse_two_actions(options.actions)
    if options.actions.show_list:
        from r1.evaluation.table.listing import list_benchmarks

        print(list_benchmarks(has_judge=options.judge.model is not None))
    elif options.actions.compare:
        _compare(_folders(arguments), options)
    elif options.actions.merge:
        _merge(_folders(arguments), options)
    elif options.actions.regrade:
        judge_settings = [text for text in arguments if text.startswith("judge.")]
        folders = _folders([text for text in arguments if text not in judge_settings])
        _regrade(folders, options, [text.removeprefix("judge.") for text in judge_settings])
    elif options.actions.responses is not None:
        _score_responses(split_words(arguments, options.output), options)
    else:
        _measure(split_words(arguments, options.output), options)


def split_words(arguments: Sequence[str], output: Path | None) -> Words:
    """Tell rows, the model and settings apart.

    Raises ValueError for two models, and for a word that is nearly a row's name.
    """
    from r1.evaluation.table.benchmarks import ALIASES, BENCHMARKS, is_generated

    known = {*BENCHMARKS, *ALIASES}
    overrides = [text for text in arguments if "=" in text]
    rows: list[str] = []
    models = [text.partition("=")[2] for text in overrides if text.startswith("model=")]
    for text in (text for text in arguments if "=" not in text):
        if text in known or is_generated(text):
            rows.append(text)
            continue
        near = difflib.get_close_matches(text, known, n=1, cutoff=_NEAR)
        if near and not Path(text).expanduser().exists():
            raise ValueError(f"unknown row {text!r}; did you mean {near[0]}?")
        models.append(text)
    if len(models) > 1:
        raise ValueError(
            f"one model, not {len(models)}: {', '.join(models)} (r1 evaluate --list shows the rows)"
        )
    outputs = [Path(text.partition("=")[2]) for text in overrides if text.startswith("output=")]
    return Words(
        model=models[0] if models else None,
        rows=rows,
        overrides=[t for t in overrides if not t.startswith(_ELSEWHERE)],
        output=output or next(iter(outputs), None),
        server=[t.removeprefix("server.") for t in overrides if t.startswith("server.")],
        judge=[t.removeprefix("judge.") for t in overrides if t.startswith("judge.")],
    )


def _measure(words: Words, options: EvaluationOptions) -> None:
    from r1.evaluation.table.run_benchmarks import preview_benchmarks, run_benchmarks

    server = _server(words, options)
    model = words.model or options.server.model_name
    if model is None:
        raise ValueError("r1 evaluate needs a model, such as: r1 evaluate tiny miniature")
    overrides = list(words.overrides)
    output = words.output or _DEFAULT_FOLDER / Path(model).name
    if server is None and Path(model).expanduser().is_dir():
        from r1.serving.chosen_model import choose_model

        chosen = choose_model(model)
        model = str(chosen.path)
        if chosen.prompt_style is not None:
            overrides.insert(0, f"prompt_style={chosen.prompt_style}")
    judge = _judge(options, output, words.judge)
    if options.actions.dry_run:
        print(preview_benchmarks(model, words.rows, output, overrides, judge))
        return
    _print_table(run_benchmarks(model, words.rows, output, overrides, server, judge))


def _score_responses(words: Words, options: EvaluationOptions) -> None:
    from r1.evaluation.table.row_result import numbers_text
    from r1.evaluation.table.run_stored import score_responses

    assert options.actions.responses is not None
    if len(words.rows) != 1 or words.model is not None:
        raise ValueError(
            "--responses needs one row and no model: r1 evaluate math500 --responses F"
        )
    path = options.actions.responses.expanduser()
    output = words.output or _DEFAULT_FOLDER / path.name.partition(".")[0]
    judge = _judge(options, output, words.judge)
    paths = score_responses(words.rows[0], path, output, words.overrides, judge)
    for line in numbers_text(output):
        print(line)
    print()
    _print_table(paths)


def _refuse_two_actions(actions: Actions) -> None:
    given = [name for name in _ACTIONS if getattr(actions, name)]
    if len(given) > 1:
        raise ValueError(f"one of --{' and --'.join(given)} at a time".replace("show_list", "list"))


def _folders(arguments: Sequence[str]) -> list[Path]:
    """Folders of finished evaluations; their settings are in them, and no longer changed."""
    for text in arguments:
        if "=" in text:
            raise ValueError(f"{text}: a folder's settings are its own; leave it out")
    return [Path(text).expanduser() for text in arguments]


def _regrade(
    folders: Sequence[Path], options: EvaluationOptions, judge_settings: Sequence[str]
) -> None:
    from r1.evaluation.table.run_stored import regrade_folder

    if len(folders) != 1:
        raise ValueError("--regrade needs one folder: r1 evaluate runs/evaluate/MODEL --regrade")
    for line in regrade_folder(folders[0], _judge(options, folders[0], judge_settings)):
        print(line)


def _merge(folders: Sequence[Path], options: EvaluationOptions) -> None:
    from r1.evaluation.table.run_stored import merge_folders

    if len(folders) < 2 or options.output is None:
        raise ValueError("--merge needs folders and --output: r1 evaluate --merge A B -o C")
    _print_table(merge_folders(folders, options.output))


def _compare(folders: Sequence[Path], options: EvaluationOptions) -> None:
    from r1.evaluation.table.comparison import compare
    from r1.evaluation.table.comparison_report import comparison_text, write_comparison

    if len(folders) != 2:
        raise ValueError("--compare needs two folders: r1 evaluate --compare A B")
    comparison = compare(folders[0], folders[1])
    print(comparison_text(comparison), end="")
    if options.output is not None:
        for path in write_comparison(comparison, options.output):
            print(path)


def _server(words: Words, options: EvaluationOptions) -> ServerConfig | None:
    if options.server.base_url is None:
        return None
    from r1.backends.openai_http_client import ServerConfig
    from r1.config import load_config

    name = options.server.model_name or words.model
    if name is None:
        raise ValueError("--base-url needs a model: r1 evaluate MODEL ROW --base-url URL")
    given = {
        "url": options.server.base_url,
        "model": name,
        "endpoint": options.server.endpoint,
        "api_key_variable": options.server.api_key_env,
    }
    return load_config(ServerConfig, None, [*_settings(given), *words.server])


def _judge(options: EvaluationOptions, output: Path, settings: Sequence[str] = ()) -> Judge | None:
    if options.judge.model is None:
        return None
    url = options.judge.url or options.server.base_url
    if url is None:
        raise ValueError("--judge needs its server: --judge-url URL")
    from r1.config import load_config
    from r1.evaluation.judges.judges import JudgeConfig, ServerJudge

    given = {
        "server.url": url,
        "server.model": options.judge.model,
        "server.api_key_variable": options.judge.key_env or options.server.api_key_env,
        "cache": str(output / "judge_cache.sqlite"),
    }
    judge = ServerJudge(load_config(JudgeConfig, None, [*_settings(given), *settings]))
    if not options.actions.dry_run:
        judge.check()
    return judge


def _settings(given: Mapping[str, str | None]) -> list[str]:
    """Options as `key="value"`; what was not given is left to the config."""
    return [f"{key}={json.dumps(value)}" for key, value in given.items() if value is not None]


def _print_table(paths: Sequence[Path]) -> None:
    markdown = next(path for path in paths if path.suffix == ".md")
    print(markdown.read_text(encoding="utf-8"), end="")
    for path in paths:
        print(path)
