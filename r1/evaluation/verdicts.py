"""Grading that fails only where it must: each call retried, and a failure never a score."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from r1.records import Completion, Grade, Problem, Turn
from r1.run_log import RunError
from r1.tasks.judged.judged import JudgedTask
from r1.text.reasoning import split_reasoning

if TYPE_CHECKING:
    from r1.tasks.task import Task


@dataclass(frozen=True, slots=True)
class Verdict:
    """A grade, who gave it, and how long that took, retries included."""

    grade: Grade
    grader_version: str
    seconds: float


def refuse_without_judge(task: Task) -> None:
    """Raise RunError for a task whose judge is not named: it would leave every reply ungraded."""
    if isinstance(task, JudgedTask) and task.judge is None:
        raise RunError(
            f"{task.name}: a judge grades its replies: name it with --judge MODEL --judge-url URL"
        )


def is_gradable(problem: Problem) -> bool:
    """Whether there is something to grade by; open questions for a reward model have nothing."""
    return problem.answer is not None or bool(problem.metadata)


def grade_reliably(
    task: Task, problem: Problem, completion: Completion, num_retries: int
) -> Verdict:
    """Grade a reply, again after a failure, at most `num_retries` times.

    What still fails has a reward of None and says why; it is counted, never scored.
    """
    started = time.perf_counter()
    grade = _grade(task, problem, completion)
    for _ in range(num_retries if is_gradable(problem) else 0):
        if grade.reward is not None:
            break
        grade = _grade(task, problem, completion)
    return Verdict(grade, task.grader_version, time.perf_counter() - started)


def _grade(task: Task, problem: Problem, completion: Completion) -> Grade:
    try:
        return task.grade(problem, completion)
    # Graders run other people's programs, servers and models: whatever they raise is a
    # verdict that is missing, and must not cost the samples that hours went into.
    except Exception as error:
        return Grade(None, reason=f"the grader raised {type(error).__name__}: {error}")


def verdict_fields(verdict: Verdict) -> dict[str, Any]:
    """What a record holds of a verdict."""
    grade = verdict.grade
    return {
        "extracted": grade.answer,
        "reward": grade.reward,
        "parts": dict(grade.parts),
        "reason": grade.reason,
        "grader_version": verdict.grader_version,
        "grading_seconds": verdict.seconds,
    }


def reply_fields(completion: Completion) -> dict[str, Any]:
    """What a record holds of a reply."""
    reasoning = split_reasoning(completion.text)
    return {
        "text": completion.text,
        "thought": reasoning.thought,
        "answer": reasoning.answer,
        "earlier": [{"reply": turn.reply, "message": turn.message} for turn in completion.earlier],
        "num_tokens": completion.num_tokens,
        "finish_reason": completion.finish_reason,
    }


def recorded_completion(record: Mapping[str, Any]) -> Completion:
    """The reply of a record, as it was graded."""
    return Completion(
        text=record["text"],
        finish_reason=record["finish_reason"],
        num_tokens=record["num_tokens"] or 0,
        earlier=tuple(Turn(t["reply"], t["message"]) for t in record.get("earlier", ())),
    )
