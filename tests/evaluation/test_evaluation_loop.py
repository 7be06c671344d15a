"""What the loop does beside sampling: conversations, failing graders, other graders, servers."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from r1.evaluation.evaluate import EvaluationSettings, evaluate
from r1.evaluation.record_file import content_of
from r1.evaluation.regrade import regrade
from r1.records import Completion, GenerationRequest, Grade, Message, Problem, Sample
from r1.run_log import RunError
from r1.tasks.judged.answers import GoldRubric, read_simpleqa_label, simpleqa_parts
from r1.tasks.judged.judged import JudgedTask, load_template
from tests.evaluation.scripted import NumberTask, Scripted, TwoTryTask, sample_and_grade

ROOT = Path(__file__).resolve().parents[2]


def settings(**changes: Any) -> EvaluationSettings:
    return EvaluationSettings(**{"num_samples": 2, **changes})


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def right(request: GenerationRequest, index: int) -> str:
    return request.id[1:]


def second_try(request: GenerationRequest, index: int) -> str:
    """p0 is right at once, p1 at the second try, p2 never."""
    number = request.id.split()[0][1:]
    has_failed = len(request.messages) > 1
    return {"0": "0", "1": "1" if has_failed else "7", "2": "8"}[number]


def test_without_a_tokenizer_prompts_are_messages(tmp_path: Path) -> None:
    generator = Scripted(right)
    result = evaluate(generator, None, NumberTask(), settings(), tmp_path / "r.jsonl", "a server")
    assert result.pass_at_1 == 1.0
    assert generator.asked[0].messages == (Message("user", "q0\nBe brief."),)
    assert generator.asked[0].prompt_ids == ()
    again = Scripted(right)
    evaluate(again, None, NumberTask(), settings(), tmp_path / "r.jsonl", "a server")
    assert again.num_made == 0
    changed = NumberTask(instruction="Be long.")
    with pytest.raises(RunError, match="other weights, prompts or sampling"):
        evaluate(again, None, changed, settings(), tmp_path / "r.jsonl", "a server")


def test_a_conversation_is_one_record(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    generator = Scripted(second_try)
    result = evaluate(generator, None, TwoTryTask(), settings(), path)
    assert result.pass_at_1 == pytest.approx((1 + 0.5 + 0) / 3)
    assert generator.num_made == 2 + 4 + 4
    record = next(row for row in rows_of(path) if row["problem_id"] == "p1")
    assert record["text"] == "1"
    assert record["earlier"] == [{"reply": "7", "message": "7 is wrong"}]
    assert record["num_tokens"] == 2
    assert generator.asked[-1].messages[1:] == (
        Message("assistant", "8"),
        Message("user", "8 is wrong"),
    )


@pytest.mark.parametrize("stop_after", range(10))
def test_an_interrupted_conversation_goes_on_at_its_turn(tmp_path: Path, stop_after: int) -> None:
    whole = sample_and_grade(
        Scripted(second_try), TwoTryTask(), settings(), tmp_path / "whole.jsonl"
    )
    path = tmp_path / "cut" / "records.jsonl"
    first = Scripted(second_try, stop_after=stop_after)
    with pytest.raises(KeyboardInterrupt):
        sample_and_grade(first, TwoTryTask(), settings(), path)
    second = Scripted(second_try)
    records = sample_and_grade(second, TwoTryTask(), settings(), path)
    assert list(map(content_of, records)) == list(map(content_of, whole))
    if stop_after > 6:  # first turns are over: none of them is asked again
        assert all(len(request.messages) > 1 for request in second.asked)


class FlakyGrader:
    """Fails in every third call: raises, or gives no reward."""

    def __init__(self) -> None:
        self.num_calls = 0

    def __call__(self, problem: Problem, completion: Completion) -> Grade:
        self.num_calls += 1
        if self.num_calls % 6 == 0:
            raise MemoryError("the worker was killed")
        if self.num_calls % 3 == 0:
            return Grade(None, reason="time limit")
        return Grade(float(completion.text == problem.answer))


def test_a_failing_grader_changes_no_score(tmp_path: Path) -> None:
    one_thread = {"num_grading_threads": 1, "num_samples": 40}
    calm = evaluate(
        Scripted(second_try), None, NumberTask(), settings(**one_thread), tmp_path / "a"
    )
    grader = FlakyGrader()
    task = NumberTask(verdict=grader)
    flaky = evaluate(Scripted(second_try), None, task, settings(**one_thread), tmp_path / "b")
    assert grader.num_calls > 120
    assert flaky.num_ungraded == 0
    assert (flaky.pass_at_1, flaky.pass_at_k) == (calm.pass_at_1, calm.pass_at_k)


def test_a_grader_that_never_answers_is_counted_not_scored(tmp_path: Path) -> None:
    def verdict(problem: Problem, completion: Completion) -> Grade:
        if problem.id == "p2":
            raise RuntimeError("no sandbox")
        return Grade(float(completion.text == problem.answer))

    path = tmp_path / "records.jsonl"
    result = evaluate(Scripted(right), None, NumberTask(verdict=verdict), settings(), path)
    assert (result.pass_at_1, result.num_ungraded, result.num_present) == (1.0, 2, 6)
    assert rows_of(path)[-1]["reason"] == "the grader raised RuntimeError: no sandbox"


def test_verdicts_of_an_older_grader_are_made_again(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    wrong = NumberTask(verdict=lambda problem, completion: Grade(0.0))
    assert evaluate(Scripted(right), None, wrong, settings(), path).pass_at_1 == 0.0
    generator = Scripted(right)
    mended = NumberTask(grader_version="numbers-2")
    assert evaluate(generator, None, mended, settings(), path).pass_at_1 == 1.0
    assert generator.num_made == 0
    assert {row["grader_version"] for row in rows_of(path)} == {"numbers-2"}


def test_what_was_ungraded_is_graded_when_it_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    down = NumberTask(verdict=lambda problem, completion: Grade(None, reason="the judge is down"))
    assert evaluate(Scripted(right), None, down, settings(), path).num_ungraded == 6
    generator = Scripted(right)
    result = evaluate(generator, None, NumberTask(), settings(), path)
    assert (result.num_ungraded, result.pass_at_1, generator.num_made) == (0, 1.0, 0)


def test_a_failure_replaces_no_verdict_of_the_same_grader(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    evaluate(Scripted(right), None, NumberTask(), settings(), path)
    before = rows_of(path)
    down = NumberTask(verdict=lambda problem, completion: Grade(None, reason="down"))
    problems = {problem.id: problem for problem in down.problems("test")}
    assert regrade(down, problems, path, 0).num_changed == 0
    assert rows_of(path) == before
    down.grader_version = "numbers-2"
    assert regrade(down, problems, path, 0).num_changed == 6


def test_without_a_judge_nothing_is_graded_by_one(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    problems = [Problem("a", "Who?", "Ann")]
    rubric = GoldRubric(load_template("simpleqa-1"), read_simpleqa_label, simpleqa_parts, "C", 1)
    task = JudgedTask("simpleqa", problems, rubric)
    with pytest.raises(
        RunError, match="simpleqa: a judge grades its replies: name it with --judge"
    ):
        evaluate(Scripted(right), None, task, settings(), path)
    assert not path.exists()


def test_tokens_that_a_server_does_not_report_are_not_known(tmp_path: Path) -> None:
    class Silent(Scripted):
        def _sample(self, request: GenerationRequest, index: int) -> Sample:
            return replace(super()._sample(request, index), reported_tokens=None)

    path = tmp_path / "records.jsonl"
    result = evaluate(Silent(right), None, NumberTask(), settings(), path)
    assert result.mean_response_tokens is None
    assert {row["num_tokens"] for row in rows_of(path)} == {None}


def test_samples_are_numbered_from_the_first_index(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    later = settings(first_sample_index=5)
    assert evaluate(Scripted(right), None, NumberTask(), later, path).num_missing == 0
    assert {row["sample_index"] for row in rows_of(path)} == {5, 6}


def test_a_missing_sample_is_missing_and_not_wrong(tmp_path: Path) -> None:
    class Losing(Scripted):
        def generate(self, requests: Any, on_sample: Any = None) -> Any:
            return super().generate([r for r in requests if r.id != "p1"], on_sample)

    result = evaluate(Losing(right), None, NumberTask(), settings(), tmp_path / "r.jsonl")
    assert (result.pass_at_1, result.num_missing) == (1.0, 2)
    assert (result.num_present, result.num_asked) == (4, 6)
    assert result.pass_at_k == {}


def test_prompts_that_do_not_fit_are_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Small(Scripted):
        max_model_len = 0

    result = evaluate(Small(right), None, NumberTask(), settings(), tmp_path / "r.jsonl")
    assert (result.pass_at_1, result.num_missing) == (None, 6)
    assert "3 of 3 prompts do not fit the context of 0 tokens" in capsys.readouterr().err


KILLED = """
import sys, time
from pathlib import Path
from r1.evaluation.evaluate import EvaluationSettings
from tests.evaluation.scripted import Scripted, TwoTryTask, sample_and_grade
from tests.evaluation.test_evaluation_loop import second_try
def slow(request, index):
    time.sleep(0.01)
    return second_try(request, index)
settings = EvaluationSettings(num_samples=40)
sample_and_grade(Scripted(slow), TwoTryTask(), settings, Path(sys.argv[1]))
"""


def test_killed_and_continued_gives_the_same_records(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    command = [sys.executable, "-c", KILLED, str(path)]
    for wanted_lines in (20, 60):
        process = subprocess.Popen(command, cwd=ROOT)
        while process.poll() is None:
            num_lines = path.read_bytes().count(b"\n") if path.exists() else 0
            if num_lines >= wanted_lines:
                process.kill()
                break
            time.sleep(0.002)
        process.wait()
    many = settings(num_samples=40)
    records = sample_and_grade(Scripted(second_try), TwoTryTask(), many, path)
    undisturbed = sample_and_grade(
        Scripted(second_try), TwoTryTask(), many, tmp_path / "undisturbed.jsonl"
    )
    assert list(map(content_of, records)) == list(map(content_of, undisturbed))
    assert len(records) == 120
