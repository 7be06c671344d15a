"""`r1 evaluate MODEL [ROW...]`: rows of the table, one model load, one folder of results.

output/<row>/config.json     the row as resolved
output/<row>/records.jsonl   one row for each (question, sample)
output/<row>/result.json     its numbers, beside the published ones
output/<row>/questions/      pages to read them
output/table.*               the table of all rows there: JSON, Markdown, HTML, PNG
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from r1.config import save_config
from r1.engine.engine import Engine
from r1.engine.open_model import open_model
from r1.evaluation.evaluate import Evaluation
from r1.evaluation.run_evaluate import EvaluateConfig, fingerprint_weights
from r1.evaluation.table.report import write_outputs
from r1.evaluation.table.row_plan import RowPlan, check_disk, cost_table, plan_rows
from r1.evaluation.table.row_result import CONFIG_FILE, RECORDS_FILE, row_facts, write_row_result
from r1.models.catalogue import resolve_model
from r1.run_log import RunFolder
from r1.text.tokenizer import Tokenizer, load_tokenizer

if TYPE_CHECKING:
    from r1.backends.openai_http_client import ServerConfig
    from r1.generator import Generator
    from r1.tasks.judged.judged import Judge


@dataclass(frozen=True, slots=True)
class Opened:
    """What answers the prompts, and what names its weights in every record."""

    generator: Generator
    tokenizer: Tokenizer | None
    weights: str


def run_benchmarks(
    model: str,
    names: Sequence[str],
    output: Path,
    overrides: Sequence[str],
    server: ServerConfig | None = None,
    judge: Judge | None = None,
) -> list[Path]:
    """Measure rows (all that can be measured, without names); the files of the table.

    Everything is checked, and the cost shown, before the model is loaded. The same
    command again continues an interrupted run. Raises TaskError, RunError or another
    ValueError of one line.
    """
    _check_model(model, server)
    plans = plan_rows(names, model, output, overrides, judge)
    say(_describe(plans))
    check_disk(plans, output)
    measured = [plan for plan in plans if not plan.reason]
    with RunFolder.open(output):
        opened = open_generator(measured[0].config, server)
        for plan in measured:
            measure_row(plan, opened)
        return write_outputs(output, {p.benchmark.name: p.reason for p in plans if p.reason})


def _check_model(model: str, server: ServerConfig | None) -> None:
    """Tell first of all that a name is wrong, or a server's key or address."""
    if server is None:
        resolve_model(model, config_only=True)
        return
    from r1.backends.openai_http_client import Server

    Server(server).check()


def preview_benchmarks(
    model: str,
    names: Sequence[str],
    output: Path,
    overrides: Sequence[str],
    judge: Judge | None = None,
) -> str:
    """What `run_benchmarks` would do and cost; starts nothing. Raises as it does."""
    return _describe(plan_rows(names, model, output, overrides, judge))


def _describe(plans: Sequence[RowPlan]) -> str:
    left_out = [f"left out: {p.benchmark.name}: {p.reason}" for p in plans if p.reason]
    return "\n".join([cost_table(plans), *left_out])


def open_generator(config: EvaluateConfig, server: ServerConfig | None) -> Opened:
    """The engine with the config's model, or a server; raises ValueError.

    The completions endpoint takes token ids, so its model must also be here, at least its
    tokenizer.
    """
    if server is None:
        weights = fingerprint_weights(resolve_model(config.model))
        model, tokenizer = open_model(
            config.model, dtype=config.dtype, device=config.device, is_trained=False
        )
        return Opened(Engine(model, tokenizer, config.engine), tokenizer, weights)
    from r1.backends.openai_http import OpenAIGenerator

    tokenizer = None
    if server.endpoint == "completions":
        tokenizer = load_tokenizer(resolve_model(config.model))
    return Opened(OpenAIGenerator(server), tokenizer, f"{server.model} at {server.url}")


def measure_row(plan: RowPlan, opened: Opened) -> None:
    """Make the records and the result of one row."""
    assert plan.task is not None
    config = plan.config
    path = config.output / RECORDS_FILE
    evaluation = Evaluation(opened.tokenizer, plan.task, config, path, opened.weights)
    # Records of other settings have been refused: what is there keeps the config it was made by.
    save_config(config, config.output / CONFIG_FILE)
    num_before = len(getattr(opened.generator, "failures", ()))
    evaluation.run(opened.generator)
    # A server lists what it finally did not give; the engine gives everything.
    failures = getattr(opened.generator, "failures", ())[num_before:]
    notes = [f"{len(failures)} replies failed; first: {failures[0].reason}"] if failures else []
    facts = row_facts(config, plan.task, evaluation.problems, notes)
    write_row_result(config.output, plan.benchmark, evaluation.records(), facts)


def say(line: str) -> None:
    """A line for the person who waits, apart from the results."""
    print(line, file=sys.stderr)
