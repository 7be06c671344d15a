"""Run a recipe: each stage once, skipped when nothing it depends on has changed.

Stages are verbs with run folders of their own, and every verb resumes by itself, so a
recipe that was killed goes on with the same command and ends with the same bits.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from r1.config import config_fingerprint
from r1.evaluation.report import build_report
from r1.evaluation.run_evaluate import evaluate_model
from r1.pipeline.inputs import check_inputs, file_states, outside_inputs
from r1.pipeline.recipe import Plan, plan_recipe
from r1.pipeline.stages import STAGE_KINDS, Stage
from r1.run_log import RunFolder, peak_rss_bytes, versions, write_json

__all__ = ["Plan", "plan_recipe", "run_recipe"]

_STAGE_FILE = "stage.json"


def run_recipe(path: Path, overrides: Sequence[str] = ()) -> Path:
    """Run every stage, measure its model, write the report; returns the run folder.

    Config, models and tasks of all stages are checked before the first one starts.
    Raises ConfigError, RunError, TaskError or another ValueError of one line, and
    KeyboardInterrupt with how to go on.
    """
    plan = plan_recipe(path, overrides)
    check_inputs(plan.stages, plan.path)
    if plan.config.num_threads is not None:
        torch.set_num_threads(plan.config.num_threads)
    console = Console(stderr=True, highlight=False)
    with RunFolder.open(plan.config.output) as run:
        try:
            run_stages(plan, run.path, console)
        except KeyboardInterrupt:
            message = f"stopped; go on with the same command: {_command()}"
            raise KeyboardInterrupt(message) from None
        build_report(run.path)
    console.print(f"report: {run.path / 'report.html'}\nchat:   r1 chat {run.path}")
    return run.path


def run_stages(plan: Plan, folder: Path, console: Console) -> None:
    """Run what is missing or stale, in order, and keep run.json up to date."""
    fingerprints: dict[str, str] = {}
    for number, stage in enumerate(plan.stages, start=1):
        title = f"[{number}/{len(plan.stages)}] {stage.name} ({stage.kind})"
        fingerprints[stage.name] = fingerprint = _fingerprint(stage, fingerprints)
        finished = _finished(stage, fingerprint)
        if finished is None:
            console.print(title, markup=False)
            write_json(folder / "run.json", _describe_run(plan))
            finished = run_stage(stage, fingerprint)
        else:
            title += " unchanged, skipped"
        console.print(f"{title}: {_headline(finished)}", markup=False)
        # Written after every stage, so that a report of an unfinished run is complete so far.
        write_json(folder / "run.json", _describe_run(plan))


def run_stage(stage: Stage, fingerprint: str) -> dict[str, Any]:
    """Run one stage and measure its model; the record of it is written last.

    What an earlier recipe left in the folder under another fingerprint is removed first.
    """
    mark = stage.path / "fingerprint.json"
    if mark.exists() and _read(mark).get("fingerprint") != fingerprint:
        shutil.rmtree(stage.path)
    write_json(mark, {"fingerprint": fingerprint})
    started = time.monotonic()
    STAGE_KINDS[stage.kind].run(stage.config)
    seconds = time.monotonic() - started
    evaluation = _read(stage.path / _STAGE_FILE).get("evaluation")
    if stage.evaluation is not None:
        records_path = stage.path / "evaluation" / "records.jsonl"
        evaluation = evaluate_model(stage.evaluation, records_path).to_json()
    finished = {
        "name": stage.name,
        "kind": stage.kind,
        "fingerprint": fingerprint,
        "seconds": seconds,
        "peak_rss_bytes": peak_rss_bytes(),
        "evaluation": evaluation,
        "versions": versions(),
    }
    write_json(stage.path / _STAGE_FILE, finished)
    return finished


# ---------------------------------------------------------------- what has changed


def _fingerprint(stage: Stage, fingerprints: Mapping[str, str]) -> str:
    """What the stage's result depends on: its settings, its files, and the stages before it."""
    parts = [stage.kind, config_fingerprint(stage.config, exclude=("output",))]
    parts += [fingerprints[name] for name in stage.inputs]
    if stage.evaluation is not None:
        parts.append(config_fingerprint(stage.evaluation, exclude=("output",)))
    for found in outside_inputs(stage, [stage.path.parent]):
        parts += file_states(found)
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _finished(stage: Stage, fingerprint: str) -> dict[str, Any] | None:
    """The record of a finished stage, if it was made from the same settings and inputs."""
    record = _read(stage.path / _STAGE_FILE)
    return record if record.get("fingerprint") == fingerprint else None


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


# ---------------------------------------------------------------- what is said of it


def _describe_run(plan: Plan) -> dict[str, Any]:
    records = [_read(stage.path / _STAGE_FILE) for stage in plan.stages]
    done = [record for record in records if record]
    return {
        "name": plan.config.name,
        "command": _command(),
        "versions": versions(),
        "seed": plan.config.seed,
        "stages": [stage.name for stage in plan.stages],
        "final": plan.config.final,
        "seconds": sum(_total_seconds(record) for record in done),
        "peak_rss_bytes": max((record["peak_rss_bytes"] for record in done), default=0),
        "claims": list(plan.config.claims),
        "recipe": plan.config.model_dump(mode="json"),
    }


def _total_seconds(record: Mapping[str, Any]) -> float:
    is_own = record["kind"] != "evaluate"
    measured = record["evaluation"]["seconds"] if is_own and record.get("evaluation") else 0.0
    return record["seconds"] + measured


def _headline(record: Mapping[str, Any]) -> str:
    evaluation = record.get("evaluation")
    spent = f"{_total_seconds(record):.0f} s"
    if not evaluation:
        return spent
    return (
        f"pass@1 {evaluation['pass_at_1']:.1%}, format {evaluation['format_rate']:.0%}, "
        f"language {evaluation['language_consistency']:.0%}, "
        f"{evaluation['mean_response_tokens']:.0f} tokens, {spent}"
    )


def _command() -> str:
    return shlex.join(["r1", *sys.argv[1:]])
