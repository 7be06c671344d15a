from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from r1.evaluation.run_report.readings import (
    MAX_CHARACTERS,
    NUM_QUESTIONS,
    readings_of_training,
    readings_through_stages,
)
from r1.evaluation.run_report.results import RunResults, StageResults, load_run


def stage(name: str, rewards: Mapping[str, float | None], text: str = "7") -> StageResults:
    records = [
        {"problem_id": key, "question": f"{key}?", "gold": "7", "answer": text, "reward": reward}
        for key, reward in rewards.items()
    ]
    return StageResults(name, "evaluate", Path(), "done", records=records)


def run_of(*stages: StageResults, final: str | None = None) -> RunResults:
    return RunResults("run", Path(), "", {}, None, None, None, None, None, stages, True, final)


def test_the_same_questions_through_all_stages(make_run: Callable[..., Path]) -> None:
    readings = readings_through_stages(load_run(make_run()))
    assert len(readings) == NUM_QUESTIONS
    for reading in readings:
        assert [reply.label for reply in reading.replies][:2] == ["base", "r1_zero"]
        assert all(reply.thought for reply in reading.replies)
    assert len({reading.question for reading in readings}) == NUM_QUESTIONS


def test_every_kind_of_course_is_shown() -> None:
    before = {f"p{i}": 0.0 for i in range(20)}
    after = {key: 1.0 for key in before} | {"p18": 0.0, "p19": None}
    readings = readings_through_stages(run_of(stage("base", before), stage("r1", after)))
    verdicts = {reading.replies[-1].is_correct for reading in readings}
    assert verdicts == {True, False, None}


def test_courses_end_at_the_final_stage() -> None:
    before = {"p0": 0.0, "p1": 0.0}
    final, student = {"p0": 0.0, "p1": 1.0}, {"p0": 0.0, "p1": 0.0}
    stages = (stage("base", before), stage("r1", final), stage("student", student))
    readings = readings_through_stages(run_of(*stages, final="r1"))
    assert {reading.replies[1].is_correct for reading in readings} == {True, False}


def test_only_questions_that_all_stages_answered() -> None:
    stages = stage("base", {"p0": 0.0, "p1": 0.0}), stage("r1", {"p1": 1.0})
    (reading,) = readings_through_stages(run_of(*stages))
    assert reading.question == "p1?"
    assert readings_through_stages(run_of()) == []


def test_long_replies_are_cut_and_say_so() -> None:
    (reading,) = readings_through_stages(run_of(stage("base", {"p": 1.0}, "x" * 10_000)))
    answer = reading.replies[0].answer
    assert len(answer) < MAX_CHARACTERS + 100
    assert answer.endswith("(4,000 more characters in the records)")


def test_first_and_last_samples_of_training() -> None:
    rows = [{"step": i, "text": f"reply {i}", "accuracy": float(i > 3)} for i in range(1, 8)]
    kept = readings_of_training(StageResults("r1", "grpo", Path(), "done", samples=rows))
    assert [reply.label for reply in kept] == ["step 1", "step 2", "step 6", "step 7"]
    assert [reply.is_correct for reply in kept] == [False, False, True, True]
