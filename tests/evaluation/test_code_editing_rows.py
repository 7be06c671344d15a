"""Aider-Polyglot and SWE-bench through the whole loop, with written-down replies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from r1.evaluation.evaluate import EvaluationSettings, evaluate
from r1.evaluation.row_metrics.swebench_predictions import write_predictions
from r1.records import GenerationRequest
from r1.tasks.aider.polyglot import AiderPolyglotTask
from r1.tasks.task import TaskConfig, build_task
from tests.evaluation.scripted import Scripted


def test_aider_passes_at_the_second_try(shared_dir: Path, tmp_path: Path) -> None:
    archive = shared_dir / "data" / "aider_polyglot" / "polyglot_benchmark.tar.xz"
    options = {"languages": ["python"]}
    task = build_task(TaskConfig(name="aider_polyglot", path=str(archive), options=options))
    assert isinstance(task, AiderPolyglotTask)
    first, second = task.problems("test")[:2]
    examples = {problem.question: task.example_reply(problem) for problem in (first, second)}

    def reply(request: GenerationRequest, index: int) -> str:
        example = examples[request.messages[0].content]
        is_second_try = "The tests are correct" in request.messages[-1].content
        return example if is_second_try or example == examples[second.question] else "Not yet."

    settings = EvaluationSettings(num_samples=1, num_problems=2)
    result = evaluate(Scripted(reply), None, task, settings, tmp_path / "records.jsonl")
    assert result.pass_at_1 == 1.0
    assert result.other_parts["pass_1"] == pytest.approx(0.5)
    assert result.other_parts["well_formed"] == 1.0


def test_swebench_asks_for_files_and_then_for_the_repair(tmp_path: Path) -> None:
    source = tmp_path / "repos" / "me__calc" / "calc.py"
    source.parent.mkdir(parents=True)
    source.write_text("def add(a, b):\n    return a - b\n")
    gold = (
        "--- a/calc.py\n+++ b/calc.py\n@@ -1,2 +1,2 @@\n def add(a, b):\n"
        "-    return a - b\n+    return a + b\n"
    )
    record = {"instance_id": "me__calc-1", "repo": "me/calc", "base_commit": "x"}
    record |= {"problem_statement": "add subtracts", "patch": gold}
    data = tmp_path / "swe.jsonl"
    data.write_text(json.dumps(record) + "\n")
    options = {"repos": str(source.parent.parent)}
    task = build_task(TaskConfig(name="swebench_localisation", path=str(data), options=options))
    fixes = ["a + b", "a  +  b", "b + a"]

    def reply(request: GenerationRequest, index: int) -> str:
        if len(request.messages) == 1:
            return "```\ncalc.py\n```"
        block = "<<<<<<< SEARCH\n    return a - b\n=======\n    return {}\n>>>>>>> REPLACE\n"
        return f"### calc.py\n```python\n{block.format(fixes[index])}```\n"

    path = tmp_path / "records.jsonl"
    result = evaluate(Scripted(reply), None, task, EvaluationSettings(num_samples=3), path)
    assert result.pass_at_1 == 1.0
    assert (result.other_parts["applies"], result.other_parts["hunk_recall"]) == (1.0, 1.0)
    assert write_predictions(path, tmp_path / "predictions.jsonl", "me") == (1, 1)
    row = json.loads((tmp_path / "predictions.jsonl").read_text())
    assert "+    return a + b\n" in row["model_patch"]
