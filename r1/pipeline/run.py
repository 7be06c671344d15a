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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from r1.config import Config, config_fingerprint
from r1.evaluation.run_evaluate import evaluate_model
from r1.evaluation.run_report.report import build_report
from r1.pipeline.inputs import check_inputs, file_states, outside_inputs
from r1.pipeline.recipe import Plan, plan_recipe
from r1.pipeline.stages import STAGE_KINDS, Stage
from r1.run_log import RunFolder, peak_rss_bytes, versions, write_json

__all__ = ["Plan", "plan_recipe", "run_recipe"]

_STAGE_FILE = "stage.json"


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What a stage's result depends on; and, with it, what its measurement depends on.

    They are kept apart so that another way of measuring trains nothing again.
    """

    result: str
    measurement: str


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
    fingerprints: dict[str, Fingerprint] = {}
    for number, stage in enumerate(plan.stages, start=1):
        title = f"[{number}/{len(plan.stages)}] {stage.name} ({stage.kind})"
        fingerprints[stage.name] = fingerprint = _fingerprint(stage, fingerprints)
        finished = _finished(stage, fingerprint)
        if finished is None:
            console.print(title, markup=False, soft_wrap=True)
            write_json(folder / "run.json", _describe_run(plan))
            finished = run_stage(stage, fingerprint)
        else:
            title += " unchanged, skipped"
        console.print(f"{title}: {_headline(finished)}", markup=False, soft_wrap=True)
        # Written after every stage, so that a report of an unfinished run is complete so far.
        write_json(folder / "run.json", _describe_run(plan))


def run_stage(stage: Stage, fingerprint: Fingerprint) -> dict[str, Any]:
    """Run one stage and measure its model; returns the record of it, stage.json.

    What an earlier recipe left in the folder under another fingerprint is removed first.
    """
    _remove_stale(stage, fingerprint)
    path = stage.path / _STAGE_FILE
    record = _read(path)
    if record.get("fingerprint") != fingerprint.result:
        started = time.monotonic()
        STAGE_KINDS[stage.kind].run(stage.config)
        record = {
            "name": stage.name,
            "kind": stage.kind,
            "fingerprint": fingerprint.result,
            "seconds": time.monotonic() - started,
            "peak_rss_bytes": peak_rss_bytes(),
            "evaluation": _read(path).get("evaluation"),
            "versions": versions(),
        }
        write_json(path, record)
    if stage.evaluation is not None:
        records_path = stage.evaluation.output / "records.jsonl"
        record["evaluation"] = evaluate_model(stage.evaluation, records_path).to_json()
        record["peak_rss_bytes"] = max(record["peak_rss_bytes"], peak_rss_bytes())
    elif STAGE_KINDS[stage.kind].makes_language_model:
        record["evaluation"] = None
    record["measurement"] = fingerprint.measurement
    write_json(path, record)
    return record


def _remove_stale(stage: Stage, fingerprint: Fingerprint) -> None:
    """Empty the stage's folder of another result, or else of another measurement."""
    mark = stage.path / "fingerprint.json"
    before = _read(mark)
    if before and before.get("result") != fingerprint.result:
        # The mark goes last: a kill meanwhile must not leave old files without it.
        for entry in stage.path.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            elif entry != mark:
                entry.unlink()
    elif before.get("measurement") != fingerprint.measurement and stage.evaluation is not None:
        shutil.rmtree(stage.evaluation.output, ignore_errors=True)
    write_json(mark, asdict(fingerprint))


# ---------------------------------------------------------------- what has changed


def _fingerprint(stage: Stage, fingerprints: Mapping[str, Fingerprint]) -> Fingerprint:
    """Settings, files, and the stages before it."""
    inner = [stage.path.parent]
    before = [fingerprints[name].result for name in stage.inputs]
    result = _hash([stage.kind, *_states(stage.config, inner), *before])
    if stage.evaluation is None:
        return Fingerprint(result, "")
    return Fingerprint(result, _hash([result, *_states(stage.evaluation, inner)]))


def _states(config: Config, made: Sequence[Path]) -> list[str]:
    states = [config_fingerprint(config, exclude=("output",))]
    return states + [
        state for found in outside_inputs(config, made) for state in file_states(found)
    ]


def _hash(parts: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _finished(stage: Stage, fingerprint: Fingerprint) -> dict[str, Any] | None:
    """The record of a finished stage, if it was made from the same settings and inputs."""
    record = _read(stage.path / _STAGE_FILE)
    found = (record.get("fingerprint"), record.get("measurement"))
    return record if found == (fingerprint.result, fingerprint.measurement) else None


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
