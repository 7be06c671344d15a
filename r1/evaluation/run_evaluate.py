"""The verb `r1 evaluate`: a model by name, a task by name, a folder of records and numbers."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from r1.config import load_config
from r1.engine.engine import Engine, EngineConfig
from r1.engine.open_model import DtypeName, open_model
from r1.evaluation.evaluate import (
    EvaluationSettings,
    asked_records,
    chosen_problems,
    evaluate,
    result_of,
)
from r1.evaluation.record_file import read_records
from r1.evaluation.regrade import Regraded, regrade
from r1.evaluation.result import EvaluationResult
from r1.models.catalogue import resolve_model
from r1.run_log import RunError, RunFolder, peak_rss_bytes, versions, write_json
from r1.tasks.task import TaskConfig, build_task, preflight

RUN_RECORDS, STAGE_FILE = Path("evaluation", "records.jsonl"), "stage.json"
_FINGERPRINT_BYTES = 1 << 16


class EvaluateConfig(EvaluationSettings):
    """`r1 evaluate`: one model on one task.

    `model` is a checkpoint folder, a .gguf file, a name from `r1 models` or a hub id;
    `dtype` None keeps the checkpoint's own; `auto` is the fastest on the device.
    """

    output: Path
    model: str
    task: TaskConfig
    engine: EngineConfig = EngineConfig()
    dtype: DtypeName | None = None
    device: str = "auto"


def run_evaluate(config: EvaluateConfig) -> EvaluationResult:
    """Evaluate into `config.output`: evaluation/records.jsonl and stage.json.

    The same command again continues an interrupted run. Raises RunError, TaskError or
    another ValueError of one line before the model is loaded when something is amiss.
    """
    with RunFolder.open(config.output, config=config) as run:
        result = evaluate_model(config, run.path / RUN_RECORDS)
        stage = {
            "name": run.path.name,
            "kind": "evaluate",
            "seconds": result.seconds,
            "peak_rss_bytes": peak_rss_bytes(),
            "evaluation": result.to_json(),
            "versions": versions(),
        }
        write_json(run.path / STAGE_FILE, stage)
    return result


def regrade_run(folder: Path) -> Regraded:
    """Grade the stored replies of `run_evaluate` again, without the model.

    Raises RunError where the run has not finished: the same command does both then.
    """
    stage = _read_stage(folder)
    with RunFolder.open(folder):
        config = load_config(EvaluateConfig, folder / "config.json")
        task = build_task(config.task)
        problems = chosen_problems(task, config)
        path = folder / RUN_RECORDS
        known = {problem.id: problem for problem in problems}
        done = regrade(task, known, path, config.num_grading_retries)
        records = asked_records(read_records(path), problems, config)
        result = result_of(records, problems, config)
        write_json(folder / STAGE_FILE, {**stage, "evaluation": result.to_json()})
    return done


def _read_stage(folder: Path) -> dict[str, Any]:
    path = folder / STAGE_FILE
    stage = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if stage.get("kind") != "evaluate":
        raise RunError(f"{folder}: no finished evaluation; the command that began it goes on")
    return stage


def evaluate_model(config: EvaluateConfig, records_path: Path) -> EvaluationResult:
    """Load the model and evaluate it; what is at `records_path` is not generated again."""
    weights = fingerprint_weights(resolve_model(config.model))
    task = build_task(config.task)
    preflight(task, (config.split,))
    model, tokenizer = open_model(
        config.model, dtype=config.dtype, device=config.device, is_trained=False
    )
    engine = Engine(model, tokenizer, config.engine)
    return evaluate(engine, tokenizer, task, config, records_path, weights)


def fingerprint_weights(path: Path) -> str:
    """A short hash that tells one checkpoint from another.

    Reads the size and both ends of every weight file, not all of it: a training step
    moves nearly every weight, and a large checkpoint takes minutes to read.
    """
    files = (
        [path] if path.is_file() else sorted([*path.glob("*.safetensors"), *path.glob("*.gguf")])
    )
    digest = hashlib.sha256()
    for file in files:
        size = file.stat().st_size
        digest.update(f"{file.name} {size}\n".encode())
        with file.open("rb") as stream:
            digest.update(stream.read(_FINGERPRINT_BYTES))
            stream.seek(max(0, size - _FINGERPRINT_BYTES))
            digest.update(stream.read())
    return digest.hexdigest()[:16]
