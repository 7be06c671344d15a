"""A row sampled from a server and graded by a judge on a server, as `r1 evaluate` does it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from r1.backends.openai_http import OpenAIGenerator
from r1.backends.openai_http_client import Server
from r1.evaluation.evaluate import EvaluationSettings, evaluate
from r1.evaluation.judges.judges import JudgeConfig, ServerJudge
from r1.evaluation.row_metrics.simpleqa import simpleqa_result
from r1.tasks.task import TaskConfig, build_task
from tests.backends.conftest import Handler, Script, answers, fails, script

__all__ = ["script"]  # the fixture


def test_a_judged_row_is_evaluated_and_continued(script: Script, tmp_path: Path) -> None:
    path = tmp_path / "qa.csv"
    path.write_text("metadata,problem,answer\nx,Who?,Ann\nx,When?,1999\nx,Where?,Rome\n")
    is_down = True

    def behave(handler: Handler, body: dict[str, Any]) -> None:
        text = body["messages"][0]["content"]
        if "Gold target" in text:
            answers("A" if "Predicted answer: Ann" in text else "C")(handler, body)
        elif is_down and text == "When?":
            fails(400, "context too long")(handler, body)
        else:
            answers("Ann", reasoning="Secret")(handler, body)

    script.default = behave
    judge_config = JudgeConfig(server=script.config(model="j"), cache=tmp_path / "judge.sqlite")
    task = build_task(TaskConfig(name="simpleqa", path=str(path)), ServerJudge(judge_config))
    settings = EvaluationSettings(num_samples=2)
    records_path = tmp_path / "records.jsonl"

    def run() -> Any:
        config = script.config(num_concurrent=4)
        with OpenAIGenerator(config, server=Server(config, sleep=lambda _: None)) as generator:
            return evaluate(generator, None, task, settings, records_path, weights="m")

    result = run()
    assert (result.num_missing, result.num_ungraded, result.pass_at_1) == (2, 0, 1.0)
    is_down = False
    num_requests = len(script.requests)
    result = run()
    # Two missing samples are generated; the judge is asked once, or twice at the same time.
    assert 2 + 1 <= len(script.requests) - num_requests <= 2 + 2
    assert (result.num_missing, result.pass_at_1) == (0, 1.0)
    records = [json.loads(line) for line in records_path.read_text().splitlines()]
    assert {record["grader_version"] for record in records} == {"simpleqa-1 by j"}
    assert all("judge j, prompt simpleqa-1#" in record["reason"] for record in records)
    assert {(r["thought"], r["answer"], r["num_tokens"]) for r in records} == {("Secret", "Ann", 7)}
    assert simpleqa_result(records).f_score == 1.0
