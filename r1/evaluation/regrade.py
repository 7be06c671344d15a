"""Grading again what was generated before: stored replies, the present grader, no model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from r1.evaluation.record_file import Key, Record, key_of, read_records
from r1.evaluation.verdicts import (
    grade_reliably,
    is_gradable,
    recorded_completion,
    refuse_without_judge,
    verdict_fields,
)
from r1.records import Problem
from r1.run_log import Progress, RunError, write_jsonl

if TYPE_CHECKING:
    from r1.tasks.task import Task

_NUM_THREADS = 4


@dataclass(frozen=True, slots=True)
class Regraded:
    """What grading again came to: how many records, and how many got another reward."""

    num_records: int
    num_changed: int


def regrade(task: Task, problems: Mapping[str, Problem], path: Path, num_retries: int) -> Regraded:
    """Grade every record of a file again by the present grader; the file is written anew.

    `problems` are the task's by id. Raises RunError for a record whose question the task
    does not hold, or holds with another text, and for a task whose judge is not named;
    nothing is written then.
    """
    before = read_records(path)
    after = _graded_again(task, problems, path, num_retries, lambda record: True)
    changed = [key for key in before if before[key]["reward"] != after[key]["reward"]]
    return Regraded(len(after), len(changed))


def regrade_stale(
    task: Task, problems: Mapping[str, Problem], path: Path, num_retries: int
) -> dict[Key, Record]:
    """The records of a file, with those of another grader version graded again, and ungraded ones.

    A result thus never mixes the verdicts of two graders, and what a judge or a sandbox
    missed while it was down is made good. Records of questions that are not in `problems`
    are left as they are.
    """

    def is_stale(record: Record) -> bool:
        problem = problems.get(record["problem_id"])
        is_other = record.get("grader_version") != task.grader_version
        is_missed = problem is not None and record["reward"] is None and is_gradable(problem)
        return problem is not None and (is_other or is_missed)

    return _graded_again(task, problems, path, num_retries, is_stale)


def _graded_again(
    task: Task,
    problems: Mapping[str, Problem],
    path: Path,
    num_retries: int,
    is_wanted: Callable[[Record], bool],
) -> dict[Key, Record]:
    records = read_records(path)
    wanted = [record for record in records.values() if is_wanted(record)]
    if not wanted:
        return records
    refuse_without_judge(task)
    asked = [_problem_of(record, problems, path) for record in wanted]
    with (
        ThreadPoolExecutor(_NUM_THREADS, "grade") as pool,
        Progress(len(wanted), f"grade {task.name} again") as progress,
    ):

        def grade(problem: Problem, record: Record) -> Record:
            verdict = grade_reliably(task, problem, recorded_completion(record), num_retries)
            has_failed = verdict.grade.reward is None and record["reward"] is not None
            if has_failed and record.get("grader_version") == verdict.grader_version:
                return record  # a failure never replaces the same grader's verdict
            return {**record, **verdict_fields(verdict)}

        for number, record in enumerate(pool.map(grade, asked, wanted), start=1):
            records[key_of(record)] = record
            progress.update(number)
    write_jsonl(path, records.values())
    return records


def _problem_of(record: Record, problems: Mapping[str, Problem], path: Path) -> Problem:
    problem = problems.get(record["problem_id"])
    if problem is None:
        raise RunError(f"{path}: question {record['problem_id']!r} is not in the task's data")
    if problem.question != record["question"]:
        raise RunError(f"{path}: question {problem.id!r} reads otherwise in the task's data now")
    return problem
